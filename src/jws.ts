// A signed token in compact form (RFC 7515) as SPIFFE's kinds of token are: taken apart, its times judged, its signature made and verified. The one importer of jose.

import { type KeyObject, type SignKeyObjectInput, sign } from "node:crypto";
import { isJsonObject, type JsonValue, parseJson } from "./json.ts";
import { SpiffeId } from "./spiffe_id.ts";
import type { JwtKey } from "./trust_bundle.ts";

/** A token goes into a header of HTTP, and servers take 8 KiB of those. */
export const TOKEN_BYTES_MAX = 16_384;
/** Keys of a kid-less token that are tried: a verification each. */
const TRIES_MAX = 8;

/** JWT-SVID section 2.1 and WIT-SVID section 2.3, with the kind of key that each takes. Nothing else is an algorithm. */
const ALGORITHM_KEY: Readonly<Record<string, JwtKey["kind"]>> = {
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

export type TokenRefusalCode =
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
  | "signature_invalid"
  | "proof_invalid";

/** Why a token is not taken; its message quotes nothing of the token but names and numbers. */
export class TokenRefused extends Error {
  readonly code: TokenRefusalCode;

  constructor(code: TokenRefusalCode, fact: string) {
    super(fact);
    this.code = code;
  }
}

export type Claims = Readonly<Record<string, JsonValue>>;

export interface TokenSigning {
  readonly algorithm: "ES256" | "RS256";
  readonly keyId: string;
  readonly privateKey: KeyObject;
}

/** The three parts, of which nothing is believed yet. Throws TokenRefused `malformed`. */
export function parseCompact(token: string): { header: Claims; claims: Claims } {
  if (token.length > TOKEN_BYTES_MAX) throw new TokenRefused("malformed", `it is longer than ${TOKEN_BYTES_MAX} bytes`);
  const [, head, body, signature] = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/.exec(token) ?? [];
  if (head === undefined || body === undefined || signature === undefined)
    throw new TokenRefused("malformed", "it is no JWS in compact form");
  decode(signature, "signature");
  return { header: parsePart(head, "header"), claims: parsePart(body, "payload") };
}

/** Of the token that a workload is the subject of. */
export function parseSubject(claims: Claims): SpiffeId {
  const subject = claims["sub"];
  if (subject === undefined) throw new TokenRefused("claim_missing", "it has no sub");
  const spiffeId = typeof subject === "string" ? SpiffeId.tryParse(subject) : undefined;
  if (spiffeId === undefined) throw new TokenRefused("claim_invalid", "its sub is no SPIFFE ID");
  return spiffeId;
}

export function parseAlgorithm(value: JsonValue | undefined, what = "its alg"): string {
  if (typeof value === "string" && Object.hasOwn(ALGORITHM_KEY, value)) return value;
  throw new TokenRefused("algorithm_refused", `${what} is none that SPIFFE allows`);
}

/** What a key must be of for an algorithm that parseAlgorithm has taken. */
export function kindOfAlgorithm(algorithm: string): JwtKey["kind"] | undefined {
  return ALGORITHM_KEY[algorithm];
}

/** `exp` must be there, and `nbf` is honoured; all in seconds. Throws TokenRefused. */
export function checkTimes(
  claims: Claims,
  { now, leeway, most }: { now: number; leeway: number; most: number },
): { expiresAt: number } {
  const expiresAt = secondsOf(claims, "exp");
  if (expiresAt === undefined) throw new TokenRefused("claim_missing", "it has no exp");
  if (now >= expiresAt + leeway) throw new TokenRefused("expired", "its exp is past");
  if (expiresAt > now + most + leeway)
    throw new TokenRefused("claim_invalid", `its exp is more than ${most / 3600} hours away`);
  const notBefore = secondsOf(claims, "nbf");
  if (notBefore !== undefined && now < notBefore - leeway)
    throw new TokenRefused("not_yet_valid", "its nbf is yet to come");
  secondsOf(claims, "iat");
  return { expiresAt };
}

/** Verifies with the one key of `kid`, or without a kid with each that fits. Throws TokenRefused `key_unknown`, `algorithm_refused`, `signature_invalid`. */
export async function checkSignature(
  token: string,
  { algorithm, keyId, keys }: { algorithm: string; keyId: string | undefined; keys: readonly JwtKey[] },
): Promise<void> {
  const named = keys.filter((key) => keyId === undefined || key.keyId === keyId);
  if (named.length === 0)
    throw new TokenRefused("key_unknown", "its kid is of no key in the bundle of its trust domain");
  const fitting = named.filter((key) => key.kind === ALGORITHM_KEY[algorithm]);
  if (fitting.length === 0)
    throw new TokenRefused("algorithm_refused", "the bundle has no key of that kid for its alg");
  for (const { key } of fitting.slice(0, TRIES_MAX)) if (await isSignedBy(token, key, algorithm)) return;
  throw new TokenRefused("signature_invalid", "its signature is not of that key");
}

export async function isSignedBy(token: string, key: KeyObject, algorithm: string): Promise<boolean> {
  const { compactVerify } = await jose();
  try {
    await compactVerify(token, key, { algorithms: [algorithm] });
    return true;
  } catch {
    // Of another key, perhaps: only without a kid is there a next one.
    return false;
  }
}

/** What is signed of these claims, in compact form (RFC 7515 section 3.1); always with `kid`. */
export interface Unsigned {
  readonly text: string;
  readonly by: TokenSigning;
}

/** Not by jose, which takes half as long again as the signature itself. */
export function layOutCompact(payload: object, by: TokenSigning, type: string): Unsigned {
  return { text: `${headOf(by, type)}.${partOf(payload)}`, by };
}

/** The token, signed here and now: everybody waits for it. Of ES256 alone, whose signature takes some 30 µs. */
export function signNow({ text, by }: Unsigned): string {
  return `${text}.${sign("sha256", Buffer.from(text, "latin1"), SIGN_INPUT[by.algorithm](by.privateKey)).toString("base64url")}`;
}

/** The token, signed on a thread of the runtime's: nobody waits, and several are signed at once. The key stays this process's one handle of it. */
export function signAside({ text, by }: Unsigned): Promise<string> {
  return new Promise((resolve, reject) => {
    sign("sha256", Buffer.from(text, "latin1"), SIGN_INPUT[by.algorithm](by.privateKey), (error, signature) => {
      if (error === null || error === undefined) resolve(`${text}.${signature.toString("base64url")}`);
      else reject(error);
    });
  });
}

/** RFC 7518 sections 3.3 and 3.4. */
const SIGN_INPUT: Readonly<Record<TokenSigning["algorithm"], (key: KeyObject) => KeyObject | SignKeyObjectInput>> = {
  ES256: (key) => ({ key, dsaEncoding: "ieee-p1363" }),
  RS256: (key) => key,
};

/** A signature of RSA takes a millisecond, and is not made while everybody waits. */
export async function signCompact(payload: object, by: TokenSigning, type: string): Promise<string> {
  const unsigned = layOutCompact(payload, by, type);
  return by.algorithm === "ES256" ? signNow(unsigned) : signAside(unsigned);
}

let lastHead = { algorithm: "", keyId: "", type: "", text: "" };

/** The same for all tokens of one key. */
function headOf({ algorithm, keyId }: TokenSigning, type: string): string {
  if (lastHead.keyId !== keyId || lastHead.algorithm !== algorithm || lastHead.type !== type)
    lastHead = { algorithm, keyId, type, text: partOf({ alg: algorithm, kid: keyId, typ: type }) };
  return lastHead.text;
}

function partOf(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

let loaded: Promise<typeof import("jose")> | undefined;

/** Loaded at the first token that is to be judged: whoever opens the CA for something else does without. */
function jose() {
  loaded ??= import("jose");
  return loaded;
}

function parsePart(text: string, name: string): Claims {
  const bytes = decode(text, name);
  try {
    const value = parseJson(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
    if (isJsonObject(value)) return value;
  } catch {
    throw new TokenRefused("malformed", `its ${name} is no JSON, or has a key twice`);
  }
  throw new TokenRefused("malformed", `its ${name} is no JSON object`);
}

/** The last character of base64 has bits to spare: two texts for one token are one too many. */
function decode(text: string, name: string): Uint8Array {
  const bytes = Buffer.from(text, "base64url");
  if (bytes.toString("base64url") === text) return bytes;
  throw new TokenRefused("malformed", `its ${name} is no base64url`);
}

function secondsOf(claims: Claims, name: string): number | undefined {
  const value = claims[name];
  if (value === undefined) return undefined;
  if (typeof value === "number" && value >= 0 && value <= Number.MAX_SAFE_INTEGER) return value;
  throw new TokenRefused("claim_invalid", `its ${name} is no time`);
}
