// JWT-SVIDs: signed and judged, by SPIFFE's JWT-SVID and RFC 7519. The one importer of jose. Pure: keys, bundles and the time come as values.

import type { KeyObject } from "node:crypto";
import { isJsonObject, type JsonValue, parseJson } from "./json.ts";
import { SpiffeId, type TrustDomain } from "./spiffe_id.ts";
import type { JwtKey } from "./trust_bundle.ts";

/** A token goes into a header of HTTP, and servers take 8 KiB of those. */
export const TOKEN_BYTES_MAX = 16_384;
/** Clocks of two nodes are apart by this much at most. */
export const LEEWAY_SECONDS = 10;
/** As of an X509-SVID. Who could sign a longer one could sign for ever. */
export const VALIDITY_SECONDS_MAX = 86_400;
/** Keys of a kid-less token that are tried: a verification each. */
const TRIES_MAX = 8;

/** JWT-SVID section 2.1, with the kind of key that each takes. Nothing else is an algorithm. */
const ALGORITHM_KEY: Readonly<Record<string, string>> = {
  RS256: "RSA",
  RS384: "RSA",
  RS512: "RSA",
  ES256: "P-256",
  ES384: "P-384",
  ES512: "P-521",
  PS256: "RSA",
  PS384: "RSA",
  PS512: "RSA",
};
const HEADERS = new Set(["alg", "kid", "typ"]);

export interface JwtSvidClaims {
  readonly spiffeId: SpiffeId;
  /** At least one. */
  readonly audience: readonly string[];
  readonly tokenId: string;
  /** Seconds since the epoch. */
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly issuer?: string;
}

export interface TokenSigning {
  readonly algorithm: "ES256" | "RS256";
  readonly keyId: string;
  readonly privateKey: KeyObject;
}

/** Always with `kid`, without which common validators refuse (and JWT-SVID section 2.2 leaves it open). */
export async function signJwtSvid(claims: JwtSvidClaims, by: TokenSigning): Promise<string> {
  const { spiffeId, audience, tokenId, issuedAt, expiresAt, issuer } = claims;
  const payload = {
    ...(issuer === undefined ? {} : { iss: issuer }),
    sub: spiffeId.toString(),
    aud: audience,
    exp: expiresAt,
    iat: issuedAt,
    jti: tokenId,
  };
  const { CompactSign } = await jose();
  return await new CompactSign(Buffer.from(JSON.stringify(payload)))
    .setProtectedHeader({ alg: by.algorithm, kid: by.keyId, typ: "JWT" })
    .sign(by.privateKey);
}

let loaded: Promise<typeof import("jose")> | undefined;

/** Loaded at the first token: whoever opens the CA for something else does without. */
function jose() {
  loaded ??= import("jose");
  return loaded;
}

export type JwtRefusalCode =
  | "malformed"
  | "header_refused"
  | "algorithm_refused"
  | "claim_missing"
  | "claim_invalid"
  | "audience_mismatch"
  | "expired"
  | "not_yet_valid"
  | "domain_untrusted"
  | "key_unknown"
  | "signature_invalid";

export type JwtAnswer =
  | {
      readonly ok: true;
      readonly spiffeId: SpiffeId;
      readonly audience: readonly string[];
      readonly expiresAt: number;
      readonly claims: Readonly<Record<string, JsonValue>>;
    }
  | { readonly ok: false; readonly code: JwtRefusalCode; readonly message: string };

export interface JwtValidation {
  /** Who asks: must be among the token's. */
  readonly audience: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** The JWT keys of a trust domain; undefined: it is not trusted. */
  keysOf(trustDomain: TrustDomain): readonly JwtKey[] | undefined;
}

/** JWT-SVID sections 2 to 4; never throws on what a token holds, and quotes nothing of it but names and numbers. */
export async function validateJwtSvid(token: string, validation: JwtValidation): Promise<JwtAnswer> {
  try {
    const parsed = parseToken(token);
    const { spiffeId, claims } = parsed;
    const times = checkTimes(claims, validation.now / 1000);
    const audience = checkAudience(claims, validation.audience);
    const keys = validation.keysOf(spiffeId.trustDomain);
    if (keys === undefined || keys.length === 0) {
      throw new Refused("domain_untrusted", `there is no JWT bundle of the trust domain ${spiffeId.trustDomain}`);
    }
    await checkSignature(token, { header: parsed.header, keys });
    return { ok: true, spiffeId, audience, expiresAt: times.expiresAt, claims };
  } catch (thrown) {
    if (!(thrown instanceof Refused)) throw thrown;
    return { ok: false, code: thrown.code, message: `Cannot accept the JWT-SVID: ${thrown.message}` };
  }
}

class Refused extends Error {
  readonly code: JwtRefusalCode;

  constructor(code: JwtRefusalCode, fact: string) {
    super(fact);
    this.code = code;
  }
}

interface Header {
  readonly algorithm: string;
  readonly keyId: string | undefined;
}

type Claims = Readonly<Record<string, JsonValue>>;

function parseToken(token: string): { header: Header; claims: Claims; spiffeId: SpiffeId } {
  if (token.length > TOKEN_BYTES_MAX) throw new Refused("malformed", `it is longer than ${TOKEN_BYTES_MAX} bytes`);
  const [, head, body, signature] = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/.exec(token) ?? [];
  if (head === undefined || body === undefined || signature === undefined)
    throw new Refused("malformed", "it is no JWS in compact form");
  const header = checkHeader(parsePart(head, "header"));
  const claims = parsePart(body, "payload");
  decode(signature, "signature");
  const subject = claims["sub"];
  if (subject === undefined) throw new Refused("claim_missing", "it has no sub");
  const spiffeId = typeof subject === "string" ? SpiffeId.tryParse(subject) : undefined;
  if (spiffeId === undefined) throw new Refused("claim_invalid", "its sub is no SPIFFE ID");
  return { header, claims, spiffeId };
}

function parsePart(text: string, name: string): Claims {
  const bytes = decode(text, name);
  try {
    const value = parseJson(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
    if (isJsonObject(value)) return value;
  } catch {
    throw new Refused("malformed", `its ${name} is no JSON, or has a key twice`);
  }
  throw new Refused("malformed", `its ${name} is no JSON object`);
}

/** The last character of base64 has bits to spare: two texts for one token are one too many. */
function decode(text: string, name: string): Uint8Array {
  const bytes = Buffer.from(text, "base64url");
  if (bytes.toString("base64url") === text) return bytes;
  throw new Refused("malformed", `its ${name} is no base64url`);
}

function checkHeader(header: Claims): Header {
  const { alg, kid, typ } = header;
  if (typeof alg !== "string" || ALGORITHM_KEY[alg] === undefined || !Object.hasOwn(ALGORITHM_KEY, alg))
    throw new Refused("algorithm_refused", "its alg is none that a JWT-SVID may have");
  if (typ !== undefined && typ !== "JWT" && typ !== "JOSE") throw new Refused("header_refused", "its typ is no JWT");
  if (kid !== undefined && (typeof kid !== "string" || kid === ""))
    throw new Refused("header_refused", "its kid is no text");
  if (!Object.keys(header).every((name) => HEADERS.has(name)))
    throw new Refused("header_refused", "it has a header besides alg, kid and typ");
  return { algorithm: alg, keyId: kid };
}

function checkTimes(claims: Claims, now: number): { expiresAt: number } {
  const expiresAt = secondsOf(claims, "exp");
  if (expiresAt === undefined) throw new Refused("claim_missing", "it has no exp");
  if (now >= expiresAt + LEEWAY_SECONDS) throw new Refused("expired", "its exp is past");
  if (expiresAt > now + VALIDITY_SECONDS_MAX + LEEWAY_SECONDS)
    throw new Refused("claim_invalid", `its exp is more than ${VALIDITY_SECONDS_MAX / 3600} hours away`);
  const notBefore = secondsOf(claims, "nbf");
  if (notBefore !== undefined && now < notBefore - LEEWAY_SECONDS)
    throw new Refused("not_yet_valid", "its nbf is yet to come");
  secondsOf(claims, "iat");
  return { expiresAt };
}

function secondsOf(claims: Claims, name: string): number | undefined {
  const value = claims[name];
  if (value === undefined) return undefined;
  if (typeof value === "number" && value >= 0 && value <= Number.MAX_SAFE_INTEGER) return value;
  throw new Refused("claim_invalid", `its ${name} is no time`);
}

function checkAudience(claims: Claims, wanted: string): readonly string[] {
  const value = claims["aud"];
  if (value === undefined) throw new Refused("claim_missing", "it has no aud");
  const audience = Array.isArray(value) ? value : [value];
  if (!isTexts(audience)) throw new Refused("claim_invalid", "its aud is neither a text nor a list of texts");
  if (audience.length === 0) throw new Refused("claim_missing", "its aud is empty");
  if (!audience.includes(wanted)) throw new Refused("audience_mismatch", "it is meant for another audience");
  return audience;
}

function isTexts(list: readonly JsonValue[]): list is readonly string[] {
  return list.every((item) => typeof item === "string");
}

async function checkSignature(token: string, by: { header: Header; keys: readonly JwtKey[] }): Promise<void> {
  const { algorithm, keyId } = by.header;
  const named = by.keys.filter((key) => keyId === undefined || key.keyId === keyId);
  if (named.length === 0) throw new Refused("key_unknown", "its kid is of no key in the bundle of its trust domain");
  const fitting = named.filter((key) => key.kind === ALGORITHM_KEY[algorithm]);
  if (fitting.length === 0) throw new Refused("algorithm_refused", "the bundle has no key of that kid for its alg");
  const { compactVerify } = await jose();
  for (const { key } of fitting.slice(0, TRIES_MAX)) {
    try {
      await compactVerify(token, key, { algorithms: [algorithm] });
      return;
    } catch {
      // Of another key, perhaps: only without a kid is there a next one.
    }
  }
  throw new Refused("signature_invalid", "its signature is not of that key");
}
