// A trust bundle in SPIFFE's JWK form (SPIFFE Trust Domain and Bundle, section 4): read and written. Knows no file, no network and no clock.

import { createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { RiprapError } from "./error.ts";
import { isJsonObject, type JsonObject, type JsonValue, parseJsonObject } from "./json.ts";
import type { TrustDomain } from "./spiffe_id.ts";

/** Roots and JWT keys of some thousand nodes. */
export const BUNDLE_BYTES_MAX = 4 << 20;
export const KEYS_MAX = 8192;
const SEQUENCE_MAX = 0xffff_ffff_ffff_ffffn;
/** A year: a longer hint is a slip of the pen. */
const REFRESH_HINT_MAX = 31_536_000;
const RSA_BITS_MIN = 2048;
const RSA_BITS_MAX = 8192;
const CURVES = new Set(["P-256", "P-384", "P-521"]);

export interface JwtKey {
  readonly keyId: string;
  /** What its algorithm must be of. */
  readonly kind: "RSA" | "P-256" | "P-384" | "P-521";
  readonly key: KeyObject;
}

export interface TrustBundle {
  readonly trustDomain: TrustDomain;
  /** DER of CA certificates. */
  readonly x509: readonly Uint8Array[];
  readonly jwt: readonly JwtKey[];
  /** Of WIT-SVIDs (incubating); none where they are not issued. */
  readonly wit?: readonly JwtKey[];
  /** 64 bits, greater with each change. */
  readonly sequence: bigint | undefined;
  readonly refreshHintSeconds: number | undefined;
}

/** The bundle held of another trust domain; undefined: it is not trusted. */
export type BundleOf = (trustDomain: TrustDomain) => TrustBundle | undefined;

/** A bundle that was read, and a sentence for each element of it that was passed over (section 4.1.3). */
export interface ParsedBundle extends TrustBundle {
  readonly ignored: readonly string[];
}

/**
 * Reads the bundle of `trustDomain`. An element that is not understood is passed over and the rest kept, so that a bundle can hold what later
 * standards add; a document whose meaning is in doubt (a key twice, a `kid` twice) is refused. RiprapError `bundle_invalid`.
 */
export function parseTrustBundle(text: string, trustDomain: TrustDomain): ParsedBundle {
  if (Buffer.byteLength(text) > BUNDLE_BYTES_MAX) throw invalid(`it is longer than ${BUNDLE_BYTES_MAX >> 20} MiB`);
  const root = parseJsonObject(text, invalid);
  const elements = root["keys"];
  if (!Array.isArray(elements)) throw invalid(`it has no list of keys${hintOf(root)}`);
  if (elements.length > KEYS_MAX) throw invalid(`it has more than ${KEYS_MAX} keys`);
  const x509: Uint8Array[] = [];
  const jwt = new Map<string, JwtKey>();
  const wit = new Map<string, JwtKey>();
  const ignored: string[] = [];
  for (const [index, element] of elements.entries()) {
    const read = readElement(element);
    if ("ignored" in read) ignored.push(`keys[${index}]: ${read.ignored}`);
    else if ("certificate" in read) x509.push(read.certificate);
    else {
      const { keyId } = read.key;
      // WIT-SVID section 6.1: one kid, one key, whatever it signs.
      if (jwt.has(keyId) || wit.has(keyId)) throw invalid(`two of its token keys have the kid ${quote(keyId)}`);
      (read.use === "jwt-svid" ? jwt : wit).set(keyId, read.key);
    }
  }
  const sequence = integerOf(root, "spiffe_sequence", SEQUENCE_MAX);
  const hint = integerOf(root, "spiffe_refresh_hint", BigInt(REFRESH_HINT_MAX));
  const refreshHintSeconds = hint === undefined ? undefined : Number(hint);
  const keys = { jwt: [...jwt.values()], ...(wit.size === 0 ? {} : { wit: [...wit.values()] }) };
  return { trustDomain, x509, ...keys, sequence, refreshHintSeconds, ignored };
}

/** The whole bundle, for another trust domain. */
export function writeTrustBundle({ x509, jwt, wit = [], sequence, refreshHintSeconds }: TrustBundle): string {
  const tokens = { "jwt-svid": jwt, "wit-svid": wit };
  const keys = [
    ...x509.map(jwkOfCertificate),
    ...Object.entries(tokens).flatMap(([use, list]) => list.map((key) => ({ use, ...jwkOfKey(key) }))),
  ];
  const text = JSON.stringify({ keys, spiffe_refresh_hint: refreshHintSeconds }, undefined, 2);
  // By hand: JSON.stringify has no word for an integer of 64 bits.
  return sequence === undefined ? text : text.replace(/^\{/, `{\n  "spiffe_sequence": ${sequence},`);
}

/** Its JWT keys alone, as a plain JWK Set (Workload API section 6.2.2): without `use`, which common readers of JWK Sets refuse to know. */
export function writeJwtBundle({ jwt }: Pick<TrustBundle, "jwt">): string {
  return JSON.stringify({ keys: jwt.map(jwkOfKey) });
}

/** Its WIT keys alone (Workload API section 7.2.2), as writeJwtBundle. */
export function writeWitBundle({ wit = [] }: Pick<TrustBundle, "wit">): string {
  return JSON.stringify({ keys: wit.map(jwkOfKey) });
}

/** A JWT key of a public key. RiprapError `key_unsuited` for one that signs no JWT-SVID. */
export function jwtKeyOf(key: KeyObject, keyId: string): JwtKey {
  const kind = kindOf(key);
  if (kind === undefined)
    throw new RiprapError("key_unsuited", "Cannot use the key for JWT-SVIDs: it is of no such kind");
  return { keyId, kind, key };
}

function hintOf(root: JsonObject): string {
  return isJsonObject(root["trust_domains"]) ? ": it is a map of several bundles, for `riprap bundle load`" : "";
}

type TokenUse = "jwt-svid" | "wit-svid";
type Read =
  | { readonly certificate: Uint8Array }
  | { readonly use: TokenUse; readonly key: JwtKey }
  | { readonly ignored: string };

function readElement(element: JsonValue): Read {
  if (!isJsonObject(element)) return { ignored: "it is no JSON object" };
  switch (element["use"]) {
    case "x509-svid":
      return readCertificate(element["x5c"]);
    case "jwt-svid":
      return readTokenKey(element, "jwt-svid");
    case "wit-svid":
      return readTokenKey(element, "wit-svid");
    default:
      return { ignored: "its use is none of x509-svid, jwt-svid and wit-svid" };
  }
}

/** X509-SVID section 6.2: only the first certificate counts. */
function readCertificate(x5c: JsonValue | undefined): Read {
  const [first] = Array.isArray(x5c) ? x5c : [];
  if (typeof first !== "string" || first === "") return { ignored: "it has no certificate in x5c" };
  const bytes = Buffer.from(first, "base64");
  if (bytes.toString("base64") !== first) return { ignored: "its certificate is no base64" };
  try {
    const certificate = new X509Certificate(bytes);
    // What comes after the certificate would be trusted by whoever reads on.
    if (!certificate.raw.equals(bytes)) return { ignored: "its certificate has bytes after its end" };
    if (!certificate.ca) return { ignored: "its certificate is of no CA" };
    return { certificate: Uint8Array.from(bytes) };
  } catch {
    return { ignored: "its certificate cannot be read" };
  }
}

function readTokenKey(element: Readonly<Record<string, JsonValue>>, use: TokenUse): Read {
  const { kid, kty } = element;
  if (typeof kid !== "string" || kid === "") return { ignored: "it has no kid" };
  if (kty !== "EC" && kty !== "RSA") return { ignored: "its kty is neither EC nor RSA" };
  const members = kty === "EC" ? ["crv", "x", "y"] : ["n", "e"];
  const jwk: Record<string, string> = { kty };
  for (const name of members) {
    const value = element[name];
    if (typeof value !== "string") return { ignored: `it has no ${name}` };
    jwk[name] = value;
  }
  try {
    const key = createPublicKey({ key: jwk, format: "jwk" });
    const kind = kindOf(key);
    return kind === undefined
      ? { ignored: "its key is too weak or of no known curve" }
      : { use, key: { keyId: kid, kind, key } };
  } catch {
    return { ignored: "its key cannot be read" };
  }
}

function kindOf(key: KeyObject): JwtKey["kind"] | undefined {
  const { kty, crv, n } = key.export({ format: "jwk" });
  if (kty === "EC" && crv !== undefined && CURVES.has(crv)) return crv as JwtKey["kind"];
  const bits = 8 * Buffer.from(n ?? "", "base64url").length;
  return kty === "RSA" && bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX ? "RSA" : undefined;
}

function integerOf(root: Readonly<Record<string, JsonValue>>, name: string, most: bigint): bigint | undefined {
  const value = root[name];
  if (value === undefined) return undefined;
  const whole = typeof value === "bigint" || (typeof value === "number" && Number.isInteger(value));
  const number = whole ? BigInt(value) : -1n;
  if (number < 0n || number > most) throw invalid(`its ${name} is no integer from 0 to ${most}`);
  return number;
}

/** With the parameters of its key, which readers of JWKs want to see beside x5c. No kid (X509-SVID section 6.1). */
function jwkOfCertificate(bytes: Uint8Array): Record<string, unknown> {
  const { publicKey } = new X509Certificate(bytes);
  return { use: "x509-svid", ...publicKey.export({ format: "jwk" }), x5c: [Buffer.from(bytes).toString("base64")] };
}

function jwkOfKey({ keyId, key }: JwtKey): Record<string, unknown> {
  return { kid: keyId, ...key.export({ format: "jwk" }) };
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 60));
}

function invalid(fact: string, cause?: unknown): RiprapError {
  return new RiprapError("bundle_invalid", `Cannot read the trust bundle: ${fact}`, { cause });
}
