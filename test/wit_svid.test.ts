// WIT-SVIDs: what is signed, and what of the world's tokens and proofs is taken. Forged with node:crypto, apart from the library under test.

import { describe, expect, test } from "bun:test";
import { createHash, createPrivateKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { jwtVerify } from "jose";
import { openJwtAuthority, openWitAuthority, signedSvids, trustBundle } from "../src/ca.ts";
import { SpiffeId } from "../src/spiffe_id.ts";
import { type JwtKey, jwtKeyOf, parseTrustBundle, writeTrustBundle, writeWitBundle } from "../src/trust_bundle.ts";
import { signWitSvid, validateWitSvid, type WitValidation } from "../src/wit_svid.ts";
import { makeNode } from "./ca/authority_fixture.ts";
import { draw, random } from "./random.ts";
import { scratchDirectories } from "./scratch.ts";

const scratch = scratchDirectories();
const NOW = Date.parse("2026-11-22T00:00:00Z");
const SECONDS = NOW / 1000;
const ID = "spiffe://example.org/app";
const AUDIENCE = "https://spool.example/print";
const ISSUER = generateKeyPairSync("ec", { namedCurve: "P-256" });
const HOLDER = generateKeyPairSync("ec", { namedCurve: "P-256" });
const STRANGER = generateKeyPairSync("ec", { namedCurve: "P-256" });
const RSA = generateKeyPairSync("rsa", { modulusLength: 2048 });
const KEYS: readonly JwtKey[] = [jwtKeyOf(ISSUER.publicKey, "wit-1")];
const JWK = { ...HOLDER.publicKey.export({ format: "jwk" }), alg: "ES256" };
const CLAIMS = { sub: ID, exp: SECONDS + 600, iat: SECONDS, jti: "t", iss: "spiffe://example.org", cnf: { jwk: JWK } };
const HEADER = { alg: "ES256", kid: "wit-1", typ: "wit+jwt" };

function compact(header: object, claims: unknown, key: KeyObject = ISSUER.privateKey): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part(header)}.${part(claims)}`;
  const by = key.asymmetricKeyType === "rsa" ? key : { key, dsaEncoding: "ieee-p1363" as const };
  return `${text}.${sign("sha256", Buffer.from(text), by).toString("base64url")}`;
}

const digest = (token: string) => createHash("sha256").update(token).digest("base64url");
const PROOF_HEADER = { alg: "ES256", typ: "wpt+jwt" };

function prove(token: string, over: object = {}, by: { header?: object; key?: KeyObject } = {}): string {
  const claims = { aud: AUDIENCE, exp: SECONDS + 60, jti: "p", wth: digest(token), ...over };
  return compact({ ...PROOF_HEADER, ...by.header }, claims, by.key ?? HOLDER.privateKey);
}

async function judge(token: string, over: Partial<WitValidation> = {}): Promise<string> {
  const validation = { now: NOW, keysOf: () => KEYS, proof: prove(token), audience: AUDIENCE, isFresh: () => true };
  const answer = await validateWitSvid(token, { ...validation, ...over });
  return answer.ok ? "ok" : answer.code;
}

const good = compact(HEADER, CLAIMS);

describe("signWitSvid", () => {
  test("signWitSvid() sets alg, typ, kid, sub, exp, cnf and cnf.jwk.alg, and no aud (W-1, W-2, W-5, W-6, W-12, W-14)", async () => {
    const spiffeId = SpiffeId.parse(ID);
    const about = {
      spiffeId,
      tokenId: "t",
      issuedAt: SECONDS,
      expiresAt: SECONDS + 60,
      issuer: "https://oidc.example",
    };
    const bound = { confirmation: HOLDER.publicKey, confirmationAlgorithm: "ES256" };
    const by = { algorithm: "ES256", keyId: "wit-1", privateKey: ISSUER.privateKey } as const;
    const token = await signWitSvid({ ...about, ...bound }, by);
    const { payload, protectedHeader } = await jwtVerify(token, ISSUER.publicKey, { currentDate: new Date(NOW) });
    expect(protectedHeader).toEqual({ alg: "ES256", kid: "wit-1", typ: "wit+jwt" });
    expect(payload as unknown).toEqual({
      ...{ iss: "https://oidc.example", sub: ID, exp: SECONDS + 60, iat: SECONDS, jti: "t", cnf: { jwk: JWK } },
    });
    expect(await judge(token)).toBe("ok");
  });
});

describe("validateWitSvid", () => {
  test("validateWitSvid() takes a good token with a good proof, and passes over what it does not know (W-4, W-13, W-10)", async () => {
    expect(await judge(good)).toBe("ok");
    expect(await judge(compact({ ...HEADER, later: 1 }, { ...CLAIMS, more: {}, iat: SECONDS + 9000 }))).toBe("ok");
  });

  const header = (over: object) => compact({ ...HEADER, ...over }, CLAIMS);
  const claims = (over: object) => compact(HEADER, { ...CLAIMS, ...over });
  test.each<[string, string, string]>([
    ["no kid (W-1)", header({ kid: undefined }), "header_refused"],
    ["a kid in other letters (W-1)", header({ kid: "WIT-1" }), "key_unknown"],
    ["no typ (W-2)", header({ typ: undefined }), "header_refused"],
    ["the typ of a JWT-SVID (W-2)", header({ typ: "JWT" }), "header_refused"],
    ["alg none (W-3)", header({ alg: "none" }), "algorithm_refused"],
    ["an HMAC (W-3)", header({ alg: "HS256" }), "algorithm_refused"],
    ["EdDSA (W-3)", header({ alg: "EdDSA" }), "algorithm_refused"],
    ["a key of another kind than its alg (W-3)", header({ alg: "RS256" }), "algorithm_refused"],
    ["a header that must be understood (W-4)", header({ crit: ["x"], x: 1 }), "header_refused"],
    ["no sub (W-5)", claims({ sub: undefined }), "claim_missing"],
    ["a sub that is no SPIFFE ID (W-5)", claims({ sub: "https://example.org" }), "claim_invalid"],
    ["no cnf (W-6)", claims({ cnf: undefined }), "claim_missing"],
    ["a cnf without a key (W-6)", claims({ cnf: { kid: "x" } }), "claim_invalid"],
    ["a cnf without alg (W-6)", claims({ cnf: { jwk: { ...JWK, alg: undefined } } }), "algorithm_refused"],
    ["a cnf with EdDSA (W-6)", claims({ cnf: { jwk: { ...JWK, alg: "EdDSA" } } }), "algorithm_refused"],
    ["a cnf whose key is not of its alg (W-6)", claims({ cnf: { jwk: { ...JWK, alg: "ES384" } } }), "claim_invalid"],
    ["a cnf off its curve", claims({ cnf: { jwk: { ...JWK, x: JWK.y, y: JWK.x } } }), "claim_invalid"],
    [
      "a private key in its cnf",
      claims({ cnf: { jwk: { ...HOLDER.privateKey.export({ format: "jwk" }), alg: "ES256" } } }),
      "claim_invalid",
    ],
    ["no exp (W-8)", claims({ exp: undefined }), "claim_missing"],
    ["an exp that is past (W-8)", claims({ exp: SECONDS - 11 }), "expired"],
    ["an exp far away (W-9)", claims({ exp: SECONDS + 90_000 }), "claim_invalid"],
    ["an nbf that is yet to come (W-9)", claims({ nbf: SECONDS + 60 }), "not_yet_valid"],
    ["an aud (W-12)", claims({ aud: AUDIENCE }), "claim_invalid"],
    ["another's signature", compact(HEADER, CLAIMS, STRANGER.privateKey), "signature_invalid"],
    ["something that is no token", "x", "malformed"],
  ])("validateWitSvid() refuses %s", async (_, token, code) => {
    expect(await judge(token)).toBe(code);
  });

  test.each<[string, string]>([
    ["none", ""],
    ["one that is no token", "x.y"],
    ["one of another token", prove(`${good}x`)],
    ["one for another audience", prove(good, { aud: "https://other.example" })],
    ["one without audience", prove(good, { aud: undefined })],
    ["one without jti", prove(good, { jti: undefined })],
    ["one without exp", prove(good, { exp: undefined })],
    ["one that has ended (W-20)", prove(good, { exp: SECONDS - 11 })],
    ["one that lasts (W-20)", prove(good, { exp: SECONDS + 3600 })],
    ["one of another typ", prove(good, {}, { header: { typ: "JWT" } })],
    ["one of another alg than its cnf", prove(good, {}, { header: { alg: "RS256" }, key: RSA.privateKey })],
    ["one with headers to be understood", prove(good, {}, { header: { crit: ["b64"], b64: false } })],
    ["one by another key", prove(good, {}, { key: STRANGER.privateKey })],
    ["the issuer's own", prove(good, {}, { key: ISSUER.privateKey })],
  ])("validateWitSvid() refuses a good token when its proof is %s (W-15, W-16)", async (_, proof) => {
    expect(await judge(good, { proof })).toBe("proof_invalid");
  });

  test("validateWitSvid() takes a proof once, and a forged one spends nothing (W-7, W-17)", async () => {
    const seen = new Set<string>();
    const isFresh = (id: string) => !seen.has(id) && seen.add(id) !== undefined;
    expect(await judge(good, { isFresh, proof: prove(good, {}, { key: STRANGER.privateKey }) })).toBe("proof_invalid");
    expect(await judge(good, { isFresh })).toBe("ok");
    expect(await judge(good, { isFresh })).toBe("proof_invalid");
    expect(await judge(good, { isFresh, proof: prove(good, { jti: "q", aud: [AUDIENCE] }) })).toBe("ok");
  });

  test("validateWitSvid() trusts the WIT keys of the subject's own trust domain alone (W-19)", async () => {
    expect(await judge(good, { keysOf: () => undefined })).toBe("domain_untrusted");
    expect(await judge(good, { keysOf: () => [] })).toBe("domain_untrusted");
    const asked: string[] = [];
    const keysOf = ({ name }: { name: string }) => {
      asked.push(name);
      return KEYS;
    };
    await judge(good, { keysOf });
    expect(asked).toEqual(["example.org"]);
  });

  test("validateWitSvid() answers, and takes nothing but what was signed, whatever the bytes (seeded)", async () => {
    const next = random(0x317);
    for (let round = 0; round < 1000; round += 1) {
      const bytes = Buffer.from(good);
      for (let edits = 1 + draw(next, 3); edits > 0; edits -= 1)
        bytes[draw(next, bytes.length)] = 0x20 + draw(next, 0x5f);
      const text = bytes.toString("latin1").slice(0, draw(next, 8) === 0 ? draw(next, bytes.length) : undefined);
      if (text !== good) expect(await judge(text)).not.toBe("ok");
      const proof = Buffer.from(prove(good));
      proof[draw(next, proof.length)] = 0x20 + draw(next, 0x5f);
      if (proof.toString("latin1") !== prove(good) && round < 200) {
        const answer = await judge(good, { proof: proof.toString("latin1") });
        expect(["proof_invalid", "ok"]).toContain(answer);
      }
    }
  });
});

describe("openWitAuthority", () => {
  test("issue() gives a token and the key that proves it, journals it, and both hold with the node's bundle (W-18, W-11)", async () => {
    const node = await makeNode(scratch());
    const wit = openWitAuthority(node);
    const { token, privateKey, tokenId } = await wit.issue({ spiffeId: ID, context: { because: ["x"] } });
    const bundle = trustBundle(node.store, node.authority, openJwtAuthority(node), wit);
    const read = parseTrustBundle(writeTrustBundle(bundle), bundle.trustDomain);
    expect(read.wit?.map(({ keyId }) => keyId)).toEqual(wit.keys.map(({ keyId }) => keyId));
    expect(JSON.parse(writeWitBundle(bundle)).keys).toHaveLength(1);
    const { alg, ...jwk } = JSON.parse(privateKey);
    expect(alg).toBe("ES256");
    const key = createPrivateKey({ key: jwk, format: "jwk" });
    const seconds = node.clock.now() / 1000;
    const proof = compact(PROOF_HEADER, { aud: AUDIENCE, exp: seconds + 60, jti: "p", wth: digest(token) }, key);
    const validation = {
      now: node.clock.now(),
      keysOf: () => read.wit,
      proof,
      audience: AUDIENCE,
      isFresh: () => true,
    };
    expect(await validateWitSvid(token, validation)).toMatchObject({ ok: true, claims: { jti: tokenId } });
    const [entry] = signedSvids(node.store, { limit: 1, type: "wit" });
    expect(entry).toMatchObject({ type: "wit", id: tokenId, spiffeId: ID, context: { because: ["x"] } });
    expect(JSON.stringify(entry)).not.toContain(token);
    node.close();
  });

  test.each([
    ["another trust domain's ID", { spiffeId: "spiffe://other.org/a" }, "svid_refused"],
    ["no life", { lifetimeSeconds: 0 }, "lifetime_invalid"],
    ["more than an hour", { lifetimeSeconds: 3601 }, "lifetime_invalid"],
  ])("issue() refuses %s", async (_, over, code) => {
    const node = await makeNode(scratch());
    const issuing = openWitAuthority(node).issue({ spiffeId: ID, context: {}, ...over });
    await expect(issuing).rejects.toMatchObject({ code });
    node.close();
  });

  test("parseTrustBundle() refuses one kid for a JWT key and a WIT key (W-18)", async () => {
    const node = await makeNode(scratch());
    const bundle = trustBundle(node.store, node.authority, openJwtAuthority(node), openWitAuthority(node));
    const document = JSON.parse(writeTrustBundle(bundle));
    const [, jwt, wit] = document.keys;
    wit.kid = jwt.kid;
    expect(() => parseTrustBundle(JSON.stringify(document), bundle.trustDomain)).toThrow("kid");
    node.close();
  });
});
