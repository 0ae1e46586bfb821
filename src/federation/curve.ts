// Ed25519 and X25519 keys as bytes, and ECDSA P-256 for what the root of a trust domain signs. Holds no key and decides nothing.
import { createPrivateKey, createPublicKey, hash, type KeyObject, sign, verify, X509Certificate } from "node:crypto";
// X25519 from a library that refuses low-order points by the letter of RFC 7748. Ed25519 from node:crypto: every node verifies every
// statement once, and there that is ten times faster; the tests hold the two against each other.
import { x25519 } from "@noble/curves/ed25519.js";

export const SEED_BYTES = 32;
export const ED25519_KEY_BYTES = 32;
export const ED25519_SIGNATURE_BYTES = 64;
/** Uncompressed point of a root's key. */
export const P256_KEY_BYTES = 65;
/** DER of two 33-byte integers. */
export const SIGNATURE_BYTES_MAX = 72;

/** RFC 8410 section 7: PKCS#8 of an Ed25519 seed, up to the seed. */
const ED25519_PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex");
/** Keys of a fleet's nodes; the oldest goes first. */
const IMPORTED_MAX = 4096;

/** A key that signs, wherever it is kept. `publicKey` is 32 bytes (Ed25519) or 65 (P-256, whose signatures are DER). */
export interface Signer {
  readonly publicKey: Uint8Array;
  sign(bytes: Uint8Array): Uint8Array;
}

/** A signer over an Ed25519 seed of 32 bytes (RFC 8032 section 5.1.5). The seed stays the caller's, to be wiped. */
export function openEd25519(seed: Uint8Array): Signer {
  if (seed.length !== SEED_BYTES) throw new RangeError("an Ed25519 seed has 32 bytes");
  const pkcs8 = Buffer.concat([ED25519_PKCS8, seed]);
  const key = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  pkcs8.fill(0);
  const { x } = createPublicKey(key).export({ format: "jwk" });
  const publicKey = Uint8Array.from(Buffer.from(x ?? "", "base64url"));
  return { publicKey, sign: (bytes) => new Uint8Array(sign(null, bytes, key)) };
}

/** Whether the signature is by this key: Ed25519 for 32 bytes, ECDSA P-256 with SHA-256 in DER for 65. Never throws. */
export function verifySignature(bytes: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean {
  const key = importKey(publicKey);
  if (key === undefined) return false;
  try {
    if (publicKey.length === P256_KEY_BYTES) return verify("sha256", bytes, key, signature);
    return signature.length === ED25519_SIGNATURE_BYTES && verify(null, bytes, key, signature);
  } catch {
    return false;
  }
}

/** How a key stands in bodies of statements and in indexes: hexadecimal digits. */
export function keyHex(publicKey: Uint8Array): string {
  return Buffer.from(publicKey).toString("hex");
}

/** How a key is named in messages, rosters and the log: the first 128 bits of its SHA-256, in hexadecimal. */
export function keyIdOf(publicKey: Uint8Array): string {
  return hash("sha256", publicKey, "hex").slice(0, 32);
}

/** The key of a root certificate (DER) as an author: its P-256 point. Undefined for anything else. */
export function rootPoint(certificate: Uint8Array): Uint8Array | undefined {
  try {
    const { kty, crv, x = "", y = "" } = new X509Certificate(certificate).publicKey.export({ format: "jwk" });
    if (kty !== "EC" || crv !== "P-256") return undefined;
    const point = Buffer.concat([Buffer.of(4), Buffer.from(x, "base64url"), Buffer.from(y, "base64url")]);
    return Uint8Array.from(point);
  } catch {
    return undefined;
  }
}

/** RFC 7748 section 6.1. Throws for a low-order point, whose secret everybody knows. */
export function x25519Shared(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array {
  return x25519.getSharedSecret(privateKey, publicKey);
}

export function x25519PublicKey(privateKey: Uint8Array): Uint8Array {
  return x25519.getPublicKey(privateKey);
}

const imported = new Map<string, KeyObject>();

function importKey(publicKey: Uint8Array): KeyObject | undefined {
  const text = Buffer.from(publicKey).toString("base64url");
  const known = imported.get(text);
  if (known !== undefined) return known;
  const key = readKey(publicKey);
  if (key === undefined) return undefined;
  const [oldest] = imported.keys();
  if (imported.size >= IMPORTED_MAX && oldest !== undefined) imported.delete(oldest);
  imported.set(text, key);
  return key;
}

/**
 * Points whose multiples are eight at most, without the sign (RFC 8032 section 5.1.3 reads them, and p and p + 1 too): under such a key anybody can
 * make a signature of anything.
 */
const SMALL_ORDER: ReadonlySet<string> = new Set([
  "00".repeat(32),
  `01${"00".repeat(31)}`,
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  `ec${"ff".repeat(30)}7f`,
  `ed${"ff".repeat(30)}7f`,
  `ee${"ff".repeat(30)}7f`,
]);

function isSmallOrder(publicKey: Uint8Array): boolean {
  const unsigned = Uint8Array.from(publicKey);
  unsigned[31] = (unsigned[31] ?? 0) & 0x7f;
  return SMALL_ORDER.has(keyHex(unsigned));
}

function readKey(publicKey: Uint8Array): KeyObject | undefined {
  const text = (from: number, to: number) => Buffer.from(publicKey.subarray(from, to)).toString("base64url");
  try {
    if (publicKey.length === ED25519_KEY_BYTES) {
      return isSmallOrder(publicKey)
        ? undefined
        : createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: text(0, 32) }, format: "jwk" });
    }
    if (publicKey.length !== P256_KEY_BYTES || publicKey[0] !== 4) return undefined;
    return createPublicKey({ key: { kty: "EC", crv: "P-256", x: text(1, 33), y: text(33, 65) }, format: "jwk" });
  } catch {
    return undefined;
  }
}
