// JWT-SVIDs: what is signed, and what of the world's tokens is taken. Forged with node:crypto, apart from the library under test.

import { describe, expect, test } from "bun:test";
import { constants, createHmac, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { jwtVerify } from "jose";
import { TOKEN_BYTES_MAX } from "../src/jws.ts";
import { type JwtAnswer, signJwtSvid, validateJwtSvid } from "../src/jwt_svid.ts";
import { SpiffeId } from "../src/spiffe_id.ts";
import { type JwtKey, jwtKeyOf } from "../src/trust_bundle.ts";
import { draw, random } from "./random.ts";

const NOW = Date.parse("2026-11-22T00:00:00Z");
const SECONDS = NOW / 1000;
const ID = "spiffe://example.org/app";

const EC = generateKeyPairSync("ec", { namedCurve: "P-256" });
const OTHER = generateKeyPairSync("ec", { namedCurve: "P-256" });
const P384 = generateKeyPairSync("ec", { namedCurve: "P-384" });
const RSA = generateKeyPairSync("rsa", { modulusLength: 2048 });
const KEYS: readonly JwtKey[] = [
  jwtKeyOf(EC.publicKey, "ec"),
  jwtKeyOf(P384.publicKey, "p384"),
  jwtKeyOf(RSA.publicKey, "rsa"),
];

type Part = Record<string, unknown> | string;

const GOOD_HEADER = { alg: "ES256", kid: "ec", typ: "JWT" };
const GOOD_CLAIMS = { sub: ID, aud: ["me"], exp: SECONDS + 300, iat: SECONDS };

function encode(part: Part): string {
  return Buffer.from(typeof part === "string" ? part : JSON.stringify(part)).toString("base64url");
}

function forge(header: Part, claims: Part, key: KeyObject | undefined = EC.privateKey): string {
  const text = `${encode(header)}.${encode(claims)}`;
  const alg = typeof header === "string" ? "ES256" : String(header["alg"]);
  const hash = `sha${alg.slice(2) === "" ? "256" : alg.slice(2)}`;
  const padding = alg.startsWith("PS")
    ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
    : {};
  if (key === undefined) return `${text}.AAAA`;
  const signature = sign(/^sha\d+$/.test(hash) ? hash : "sha256", Buffer.from(text), {
    key,
    dsaEncoding: "ieee-p1363",
    ...padding,
  });
  return `${text}.${signature.toString("base64url")}`;
}

function judge(token: string, options: { now?: number; audience?: string; keys?: readonly JwtKey[] } = {}) {
  const { now = NOW, audience = "me", keys = KEYS } = options;
  return validateJwtSvid(token, {
    audience,
    now,
    keysOf: ({ name }) => (name === "example.org" ? keys : undefined),
  });
}

function codeOf(answer: JwtAnswer): string {
  return answer.ok ? "ok" : answer.code;
}

const claims = (over: Record<string, unknown>) => forge(GOOD_HEADER, { ...GOOD_CLAIMS, ...over });
const without = (name: keyof typeof GOOD_CLAIMS) => {
  const { [name]: _, ...rest } = GOOD_CLAIMS;
  return forge(GOOD_HEADER, rest);
};

describe("signJwtSvid", () => {
  test.each([
    ["ES256", "ec", EC],
    ["RS256", "rsa", RSA],
  ] as const)(
    "signJwtSvid() makes a compact JWS of %s with alg, kid and typ alone, which a general JWT library takes (J-1, J-2, J-3, J-4, J-6, J-13)",
    async (algorithm, keyId, pair) => {
      const issue = { spiffeId: SpiffeId.parse(ID), audience: ["me"], tokenId: "t-1", issuedAt: SECONDS };
      const token = await signJwtSvid(
        { ...issue, expiresAt: SECONDS + 60, issuer: "https://issuer.example" },
        { algorithm, keyId, privateKey: pair.privateKey },
      );
      const { payload, protectedHeader } = await jwtVerify(token, pair.publicKey, { currentDate: new Date(NOW) });
      expect(protectedHeader).toEqual({ alg: algorithm, kid: keyId, typ: "JWT" });
      expect(payload as unknown).toEqual({
        iss: "https://issuer.example",
        sub: ID,
        aud: ["me"],
        exp: SECONDS + 60,
        iat: SECONDS,
        jti: "t-1",
      });
      expect(await judge(token)).toMatchObject({ ok: true, audience: ["me"], expiresAt: SECONDS + 60 });
    },
  );
});

describe("validateJwtSvid", () => {
  test.each([
    ["ES256", "ec", EC.privateKey],
    ["ES384", "p384", P384.privateKey],
    ["RS256", "rsa", RSA.privateKey],
    ["RS512", "rsa", RSA.privateKey],
    ["PS256", "rsa", RSA.privateKey],
    ["PS384", "rsa", RSA.privateKey],
  ])("validateJwtSvid() takes %s (J-3)", async (alg, kid, key) => {
    expect(codeOf(await judge(forge({ alg, kid }, GOOD_CLAIMS, key)))).toBe("ok");
  });

  test("validateJwtSvid() takes a token without kid or typ, with one audience as a text, and claims of others (J-4, J-5, J-7)", async () => {
    const answer = await judge(forge({ alg: "ES256" }, { ...GOOD_CLAIMS, aud: "me", "https://x.example/role": [1] }));
    expect(answer).toMatchObject({ ok: true, audience: ["me"] });
    expect(codeOf(await judge(forge({ ...GOOD_HEADER, typ: "JOSE" }, GOOD_CLAIMS)))).toBe("ok");
  });

  const jwk = OTHER.publicKey.export({ format: "jwk" });
  const hmac = (secret: string) => {
    const text = `${encode({ alg: "HS256", kid: "ec" })}.${encode(GOOD_CLAIMS)}`;
    return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
  };

  test.each<[string, string, string]>([
    ["alg none (J-3)", forge({ alg: "none" }, GOOD_CLAIMS, undefined), "algorithm_refused"],
    ["alg None (J-3)", forge({ alg: "None", kid: "ec" }, GOOD_CLAIMS), "algorithm_refused"],
    [
      "HS256 by the public key (J-3)",
      hmac(EC.publicKey.export({ format: "pem", type: "spki" }) as string),
      "algorithm_refused",
    ],
    ["EdDSA (J-3)", forge({ alg: "EdDSA", kid: "ec" }, GOOD_CLAIMS), "algorithm_refused"],
    ["an alg of Object's own (J-3)", forge({ alg: "constructor", kid: "ec" }, GOOD_CLAIMS), "algorithm_refused"],
    ["no alg (J-3)", forge({ kid: "ec" }, GOOD_CLAIMS), "algorithm_refused"],
    ["an alg that is no text (J-3)", forge({ alg: ["ES256"], kid: "ec" }, GOOD_CLAIMS), "algorithm_refused"],
    [
      "an alg of another kind of key (J-9)",
      forge({ alg: "RS256", kid: "ec" }, GOOD_CLAIMS, RSA.privateKey),
      "algorithm_refused",
    ],
    ["ES256 with a P-384 key (J-9)", forge({ alg: "ES256", kid: "p384" }, GOOD_CLAIMS), "algorithm_refused"],
    ["a wrong typ (J-5, ID-19)", forge({ ...GOOD_HEADER, typ: "wit+jwt" }, GOOD_CLAIMS), "header_refused"],
    ["typ jwt in lower case (J-5)", forge({ ...GOOD_HEADER, typ: "jwt" }, GOOD_CLAIMS), "header_refused"],
    [
      "a key that it brings itself (J-2)",
      forge({ ...GOOD_HEADER, jwk }, GOOD_CLAIMS, OTHER.privateKey),
      "header_refused",
    ],
    ["a place for its key (J-2)", forge({ ...GOOD_HEADER, jku: "https://x.example" }, GOOD_CLAIMS), "header_refused"],
    ["crit (J-2)", forge({ ...GOOD_HEADER, crit: ["b64"], b64: false }, GOOD_CLAIMS), "header_refused"],
    ["two kids", forge('{"alg":"ES256","kid":"ec","kid":"rsa"}', GOOD_CLAIMS), "malformed"],
    ["two algs", forge('{"alg":"ES256","kid":"ec","alg":"none"}', GOOD_CLAIMS), "malformed"],
    ["two subs", forge(GOOD_HEADER, `{"sub":"${ID}","sub":"${ID}","aud":"me","exp":${SECONDS + 9}}`), "malformed"],
    ["an empty kid", forge({ ...GOOD_HEADER, kid: "" }, GOOD_CLAIMS), "header_refused"],
    ["a kid that is a number", forge({ ...GOOD_HEADER, kid: 1 }, GOOD_CLAIMS), "header_refused"],
    ["a kid that is unknown (J-12)", forge({ ...GOOD_HEADER, kid: "EC" }, GOOD_CLAIMS), "key_unknown"],
    ["another's key", forge(GOOD_HEADER, GOOD_CLAIMS, OTHER.privateKey), "signature_invalid"],
    ["another's key, without kid", forge({ alg: "ES256" }, GOOD_CLAIMS, OTHER.privateKey), "signature_invalid"],
    ["no sub (J-6)", without("sub"), "claim_missing"],
    ["a sub that is no SPIFFE ID (J-6)", claims({ sub: "https://example.org/app" }), "claim_invalid"],
    ["a sub in capitals (J-6)", claims({ sub: "SPIFFE://example.org/app" }), "claim_invalid"],
    ["no aud (J-7)", without("aud"), "claim_missing"],
    ["an empty aud (J-7)", claims({ aud: [] }), "claim_missing"],
    ["an aud of numbers (J-7)", claims({ aud: [1] }), "claim_invalid"],
    ["an aud that is an object (J-7)", claims({ aud: { me: true } }), "claim_invalid"],
    ["another's aud (J-7)", claims({ aud: ["Me", "you"] }), "audience_mismatch"],
    ["no exp (J-8)", without("exp"), "claim_missing"],
    ["an exp that is past (J-8)", claims({ exp: SECONDS - 10 }), "expired"],
    ["an exp far away", claims({ exp: SECONDS + 2 * 86_400 }), "claim_invalid"],
    ["an exp above 2^53", forge(GOOD_HEADER, `{"sub":"${ID}","aud":"me","exp":99999999999999999999}`), "claim_invalid"],
    ["an exp that is a text", claims({ exp: String(SECONDS + 300) }), "claim_invalid"],
    ["a negative exp", claims({ exp: -1 }), "claim_invalid"],
    ["an nbf to come (J-9)", claims({ nbf: SECONDS + 60 }), "not_yet_valid"],
    ["an iat that is no time", claims({ iat: "now" }), "claim_invalid"],
    ["another trust domain (A-20)", claims({ sub: "spiffe://other.org/app" }), "domain_untrusted"],
    ["claims that are a list", forge(GOOD_HEADER, "[]"), "malformed"],
    ["claims that are no JSON", forge(GOOD_HEADER, "{"), "malformed"],
    ["claims with a byte order mark", forge(GOOD_HEADER, `\ufeff${JSON.stringify(GOOD_CLAIMS)}`), "malformed"],
    ["JSON serialization (J-1)", JSON.stringify({ payload: "e30", signatures: [] }), "malformed"],
    ["nothing", "", "malformed"],
    ["two parts", "a.b", "malformed"],
    ["four parts", `${claims({})}.AAAA`, "malformed"],
    ["padding", claims({}).replace(".", "=."), "malformed"],
    ["a blank at its end", `${claims({})} `, "malformed"],
    ["too long", `${"a".repeat(TOKEN_BYTES_MAX)}.b.c`, "malformed"],
  ])("validateJwtSvid() refuses %s", async (_, token, code) => {
    expect(codeOf(await judge(token))).toBe(code);
  });

  test("validateJwtSvid() refuses a trust domain whose bundle holds no JWT key (B-7, J-12)", async () => {
    expect(codeOf(await judge(claims({}), { keys: [] }))).toBe("domain_untrusted");
  });

  test("validateJwtSvid() follows a clock that jumps an hour either way", async () => {
    const token = claims({ nbf: SECONDS });
    expect(codeOf(await judge(token, { now: NOW + 3_600_000 }))).toBe("expired");
    expect(codeOf(await judge(token, { now: NOW - 3_600_000 }))).toBe("not_yet_valid");
    expect(codeOf(await judge(token, { now: NOW + 309_000 }))).toBe("ok");
    expect(codeOf(await judge(token, { now: NOW + 310_000 }))).toBe("expired");
  });

  test("validateJwtSvid() refuses every token in which one character was changed (ID-18)", async () => {
    const token = claims({});
    const next = random(7);
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=";
    for (let round = 0; round < 500; round++) {
      const at = draw(next, token.length);
      const changed = token.slice(0, at) + alphabet[draw(next, alphabet.length)] + token.slice(at + 1);
      if (changed !== token) expect(codeOf(await judge(changed))).not.toBe("ok");
    }
  });

  test("validateJwtSvid() takes one text alone for a signature, of those that decode to its bytes", async () => {
    const token = claims({});
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const answers = await Promise.all([...alphabet].map((last) => judge(token.slice(0, -1) + last)));
    expect(answers.filter(({ ok }) => ok)).toHaveLength(1);
  });

  test("validateJwtSvid() tells nothing of the token's own text", async () => {
    for (const token of [claims({ sub: "https://secret.example" }), "secret", claims({ aud: "secret" })]) {
      const answer = await judge(token);
      expect(answer.ok ? "" : answer.message).not.toContain("secret");
    }
  });
});
