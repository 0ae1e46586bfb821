// Trust bundles in SPIFFE's JWK form: written, read back, and what is refused or passed over.

import { beforeAll, describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { exportJWK, importJWK, type JWK } from "jose";
import { RiprapError } from "../src/error.ts";
import { SpiffeId, TrustDomain } from "../src/spiffe_id.ts";
import { jwtKeyOf, parseTrustBundle, type TrustBundle, writeJwtBundle, writeTrustBundle } from "../src/trust_bundle.ts";
import { makeNode, makeWorkloadKey } from "./ca/authority_fixture.ts";
import { draw, random } from "./random.ts";
import { scratchDirectories } from "./scratch.ts";

const scratch = scratchDirectories();
const DOMAIN = TrustDomain.parse("example.org");
const EC = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey;
const RSA = generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey;
let root: Uint8Array;
let leaf: Uint8Array;

beforeAll(async () => {
  const node = await makeNode(scratch());
  root = node.authority.bundle[0] as Uint8Array;
  const request = { spiffeId: SpiffeId.parse("spiffe://example.org/a"), lifetimeSeconds: 60, context: {} };
  leaf = node.authority.issueX509Svid({ ...request, publicKey: makeWorkloadKey().point }).chain[0] as Uint8Array;
  node.close();
});

const read = (value: unknown) => parseTrustBundle(typeof value === "string" ? value : JSON.stringify(value), DOMAIN);
const jwk = (over: object = {}) => ({ use: "jwt-svid", kid: "k", ...EC.export({ format: "jwk" }), ...over });
const x5c = (...certificates: readonly Uint8Array[]) => ({
  use: "x509-svid",
  kty: "EC",
  x5c: certificates.map((der) => Buffer.from(der).toString("base64")),
});

describe("writeTrustBundle", () => {
  const bundle = (): TrustBundle => ({
    trustDomain: DOMAIN,
    x509: [root],
    jwt: [jwtKeyOf(EC, "a"), jwtKeyOf(RSA, "b")],
    sequence: 18446744073709551615n,
    refreshHintSeconds: 300,
  });

  test("writeTrustBundle() writes what parseTrustBundle() reads, with a sequence of 64 bits (B-3, B-4, B-5)", () => {
    const { ignored, ...answer } = read(writeTrustBundle(bundle()));
    expect(ignored).toEqual([]);
    expect(answer.sequence).toBe(18446744073709551615n);
    expect(answer.refreshHintSeconds).toBe(300);
    expect(answer.x509.map((der) => Buffer.from(der).toString("hex"))).toEqual([Buffer.from(root).toString("hex")]);
    expect(answer.jwt.map(({ keyId, kind }) => [keyId, kind])).toEqual([
      ["a", "P-256"],
      ["b", "RSA"],
    ]);
  });

  test("writeTrustBundle() gives each element its use, a root one certificate and no kid, a JWT key its kid (B-8, B-9, B-10, J-11, X-17)", () => {
    const { keys } = JSON.parse(writeTrustBundle(bundle())) as { keys: Record<string, unknown>[] };
    expect(keys.map(({ use, kid, kty }) => [use, kid, kty])).toEqual([
      ["x509-svid", undefined, "EC"],
      ["jwt-svid", "a", "EC"],
      ["jwt-svid", "b", "RSA"],
    ]);
    expect(keys[0]?.["x5c"]).toHaveLength(1);
    expect(JSON.stringify(keys)).not.toContain('"d"');
  });

  test("writeJwtBundle() is a JWK Set that a general library takes, of JWT keys alone (A-18)", async () => {
    const { keys } = JSON.parse(writeJwtBundle(bundle())) as { keys: { kid: string }[] };
    expect(keys.map(({ kid }) => kid)).toEqual(["a", "b"]);
    expect(await importJWK({ ...keys[0] }, "ES256")).toBeDefined();
  });

  test("a bundle without keys is a bundle (B-5, B-7)", () => {
    expect(read({ keys: [] })).toMatchObject({ x509: [], jwt: [], sequence: undefined, refreshHintSeconds: undefined });
  });
});

const EC_JWK = EC.export({ format: "jwk" });
const RSA_JWK = RSA.export({ format: "jwk" });
const SHORT_RSA = generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey.export({ format: "jwk" });
const ED = generateKeyPairSync("ed25519").publicKey.export({ format: "jwk" });
const flipped = (text = "") =>
  Buffer.from(Buffer.from(text, "base64url").map((octet) => octet ^ 1)).toString("base64url");

describe("parseTrustBundle", () => {
  test.each<[string, string, object]>([
    ["P-256", "ES256", EC_JWK],
    ["P-384", "ES384", generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey.export({ format: "jwk" })],
    ["RSA", "RS256", RSA_JWK],
    ["a point off its curve", "ES256", { ...EC_JWK, x: flipped(EC_JWK.x) }],
    ["a coordinate that is too short", "ES256", { ...EC_JWK, x: EC_JWK.x?.slice(0, 40) }],
    ["a coordinate of another curve", "ES384", { ...EC_JWK, crv: "P-384" }],
    ["no second coordinate", "ES256", { ...EC_JWK, y: undefined }],
    ["a coordinate that is a number", "ES256", { ...EC_JWK, y: 7 }],
    ["an empty modulus", "RS256", { ...RSA_JWK, n: "" }],
    ["a modulus of 1024 bits", "RS256", SHORT_RSA],
    ["no exponent", "RS256", { ...RSA_JWK, e: undefined }],
    ["an RSA key that says it is of a curve", "ES256", { ...RSA_JWK, kty: "EC" }],
    ["a curve key that says it is RSA", "RS256", { ...EC_JWK, kty: "RSA" }],
    ["an Ed25519 key that says it is of P-256", "ES256", { ...ED, kty: "EC", crv: "P-256" }],
  ])(
    "parseTrustBundle() takes no key that jose refuses, and reads the one that jose reads: %s (B-6)",
    async (_, alg, key) => {
      const held = read({ keys: [{ ...key, use: "jwt-svid", kid: "k" }] }).jwt[0];
      const theirs = await importJWK({ ...key } as JWK, alg).then(exportJWK, () => undefined);
      if (held === undefined) return expect([undefined, SHORT_RSA.n]).toContain(theirs?.n);
      const { kty, crv, x, y, n, e } = held.key.export({ format: "jwk" });
      expect(JSON.parse(JSON.stringify({ kty, crv, x, y, n, e }))).toEqual(theirs as object);
    },
  );

  test.each<[string, unknown]>([
    ["no JSON", "{"],
    ["a list", "[]"],
    ["no keys (B-5)", {}],
    ["keys that are no list (B-5)", { keys: {} }],
    ["a member twice", '{"keys":[],"keys":[]}'],
    ["a member of a key twice", '{"keys":[{"use":"jwt-svid","use":"x509-svid"}]}'],
    ["a kid twice", { keys: [jwk(), jwk()] }],
    ["a sequence that is a text (B-3)", { keys: [], spiffe_sequence: "1" }],
    ["a sequence with a fraction (B-3)", { keys: [], spiffe_sequence: 1.5 }],
    ["a negative sequence (B-3)", { keys: [], spiffe_sequence: -1 }],
    ["a sequence of 65 bits (B-3)", '{"keys":[],"spiffe_sequence":18446744073709551616}'],
    ["a hint that is a text (B-4)", { keys: [], spiffe_refresh_hint: "5m" }],
    ["a hint of 100 years (B-4)", { keys: [], spiffe_refresh_hint: 3_153_600_000 }],
    ["more keys than fit", { keys: Array(8193).fill({}) }],
  ])("parseTrustBundle() refuses %s", (_, value) => {
    expect(() => read(value)).toThrow(RiprapError);
  });

  test("parseTrustBundle() keeps all 64 bits of a sequence above 2^53 (B-3)", () => {
    expect(read('{"keys":[],"spiffe_sequence":9007199254740993}').sequence).toBe(9007199254740993n);
  });

  test.each<[string, () => unknown]>([
    ["an element that is no object", () => 7],
    ["an unknown use (B-6, B-10, ID-19)", () => jwk({ use: "later-svid" })],
    ["no use (B-10)", () => jwk({ use: undefined })],
    ["use in capitals (B-10)", () => jwk({ use: "JWT-SVID" })],
    ["an unknown kty (B-6, B-9)", () => jwk({ kty: "OKP" })],
    ["no kid (J-11)", () => jwk({ kid: undefined })],
    ["an empty kid (J-11)", () => jwk({ kid: "" })],
    ["a curve that is none", () => jwk({ crv: "P-255" })],
    ["a curve of no JWT-SVID", () => jwk({ crv: "secp256k1" })],
    ["a point off its curve", () => jwk({ x: jwk().y, y: jwk().x })],
    ["no y", () => jwk({ y: undefined })],
    [
      "an RSA key of 1024 bits",
      () => jwk({ ...generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey.export({ format: "jwk" }) }),
    ],
    ["no x5c (X-18)", () => ({ use: "x509-svid", kty: "EC" })],
    ["an empty x5c (X-18)", () => x5c()],
    ["a certificate that is no base64", () => ({ use: "x509-svid", kty: "EC", x5c: ["*"] })],
    ["a certificate that is cut short", () => x5c(root.subarray(0, -1))],
    ["a certificate with a byte after its end", () => x5c(Buffer.concat([root, Buffer.of(0)]))],
    ["a certificate of no CA", () => x5c(leaf)],
  ])("parseTrustBundle() passes over %s and keeps the good ones", (_, element) => {
    const answer = read({ keys: [jwk({ kid: "good" }), element(), x5c(root)] });
    expect(answer.jwt.map(({ keyId }) => keyId)).toEqual(["good"]);
    expect(answer.x509).toHaveLength(1);
    expect(answer.ignored).toHaveLength(1);
    expect(answer.ignored[0]).toStartWith("keys[1]: ");
  });

  test("parseTrustBundle() takes the first certificate of an x5c alone (X-18)", () => {
    expect(read({ keys: [x5c(root, leaf)] }).x509).toHaveLength(1);
    expect(read({ keys: [x5c(leaf, root)] }).x509).toHaveLength(0);
  });

  test("parseTrustBundle() passes over members that it does not know (B-2)", () => {
    expect(read({ keys: [jwk({ note: 1 })], other: { deep: [1] } }).jwt).toHaveLength(1);
  });

  test("parseTrustBundle() answers or refuses, whatever becomes of the text", () => {
    const text = JSON.stringify({ keys: [jwk(), x5c(root)], spiffe_sequence: 7 });
    const next = random(11);
    for (let round = 0; round < 2000; round++) {
      const at = draw(next, text.length);
      const changed = text.slice(0, at) + String.fromCharCode(32 + draw(next, 95)) + text.slice(at + draw(next, 3));
      try {
        read(changed);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(RiprapError);
      }
    }
  });
});
