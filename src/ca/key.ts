// P-256 keys: points, private keys from bytes, identifiers, verification. Reads no file and signs nothing.
import { createECDH, createPrivateKey, createPublicKey, hash, type KeyObject, verify } from "node:crypto";
import { RiprapError } from "../error.ts";

/** Uncompressed point: 04, x, y (SEC 1 section 2.3.3). */
export const POINT_BYTES = 65;
/** SubjectPublicKeyInfo of a P-256 key, up to the point (RFC 5480). */
export const P256_SPKI_PREFIX = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d030107034200", "hex");
/** For one parsing at a time: public values. */
const SPKI = Buffer.concat([P256_SPKI_PREFIX, new Uint8Array(POINT_BYTES)]);
/** A P-256 key in PKCS#8 takes 138 bytes; an explicit-parameter one still fits. */
export const KEY_BYTES_MAX = 1024;
/** PKCS#8 (RFC 5208) of a P-256 key with the point in it (RFC 5915): what stands before the scalar, and between scalar and point. */
const PKCS8_HEAD = Buffer.from("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420", "hex");
const PKCS8_MIDDLE = Buffer.from("a144034200", "hex");
const SCALAR_BYTES = 32;
const SCALAR_END = PKCS8_HEAD.length + SCALAR_BYTES;
const PKCS8_BYTES = SCALAR_END + PKCS8_MIDDLE.length + POINT_BYTES;
/** PEM of a public key takes 178 bytes. */
const PEM_MAX = 4096;

/** A new key that is never on disk: its point, and PKCS#8 DER for whoever it is for. Wipe the latter after use. */
export function createKey(): { readonly point: CurvePoint; readonly pkcs8: Uint8Array } {
  // Not a KeyObject and its export: that takes half as long again as the making of the key.
  const pair = createECDH("prime256v1");
  const point = pair.generateKeys();
  const scalar = pair.getPrivateKey();
  const pkcs8 = Buffer.alloc(PKCS8_BYTES);
  pkcs8.set(PKCS8_HEAD);
  // A scalar comes without its leading zero octets.
  pkcs8.set(scalar, SCALAR_END - scalar.length);
  pkcs8.set(PKCS8_MIDDLE, SCALAR_END);
  pkcs8.set(point, PKCS8_BYTES - POINT_BYTES);
  scalar.fill(0);
  return { point: CurvePoint.ofOwnKey(point), pkcs8 };
}

/** A P-256 point that is known to lie on the curve. */
export class CurvePoint {
  /** Uncompressed, 65 octets. */
  readonly bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** A copy; undefined when it is no uncompressed point of the curve. */
  static tryParse(bytes: Uint8Array): CurvePoint | undefined {
    // Not Uint8Array.from, which goes through an iterator: a tenth of what a signature takes.
    const own = new Uint8Array(bytes);
    return keyOfPoint(own) === undefined ? undefined : new CurvePoint(own);
  }

  /** Of a key that was made here. */
  static ofOwnKey(bytes: Uint8Array): CurvePoint {
    return new CurvePoint(bytes);
  }
}

/** A P-256 key from PKCS#8 DER; the bytes stay the caller's to wipe. Throws RiprapError `ca_key_invalid`, which names `path`. */
export function parsePrivateKey(pkcs8: Uint8Array, path: string): KeyObject {
  try {
    const key = createPrivateKey({
      key: Buffer.from(pkcs8.buffer, pkcs8.byteOffset, pkcs8.length),
      format: "der",
      type: "pkcs8",
    });
    pointOf(createPublicKey(key));
    return key;
  } catch (cause) {
    const remedy = "restore it from a copy, or give this node up (remove ca/) and enrol it again";
    const fact = "it is not a P-256 private key in PKCS#8 DER";
    throw new RiprapError("ca_key_invalid", `Cannot use the key ${path}: ${fact}; ${remedy}`, { cause });
  }
}

/** The key object of a point, or undefined when it is no point of the curve. */
export function keyOfPoint(point: Uint8Array): KeyObject | undefined {
  if (point.length !== POINT_BYTES || point[0] !== 4) return undefined;
  SPKI.set(point, P256_SPKI_PREFIX.length);
  try {
    return createPublicKey({ key: SPKI, format: "der", type: "spki" });
  } catch {
    return undefined;
  }
}

/** The point of a PEM public key (SPKI). Throws RiprapError `public_key_invalid`. */
export function parsePublicKeyPem(pem: string): Uint8Array {
  try {
    if (pem.length > PEM_MAX) throw new Error(`it is longer than ${PEM_MAX} bytes`);
    if (!/^\s*-----BEGIN PUBLIC KEY-----/.test(pem))
      throw new Error("it does not begin with -----BEGIN PUBLIC KEY-----");
    return pointOf(createPublicKey({ key: pem, format: "pem" }));
  } catch (cause) {
    const fact = (cause as Error).message;
    throw new RiprapError(
      "public_key_invalid",
      `Cannot read the public key: ${fact}; give a P-256 public key in PEM (\`openssl pkey -pubout\`)`,
      { cause },
    );
  }
}

/** SHA-256, cut to 160 bits (RFC 7093 section 2, method 1): subject and authority key identifiers. */
export function keyIdentifier(point: Uint8Array): Uint8Array {
  return hash("sha256", point, "buffer").subarray(0, 20);
}

/** SHA-256 of a certificate in lower-case hexadecimal, as `openssl x509 -fingerprint -sha256` prints it without the colons. */
export function fingerprint(certificate: Uint8Array): string {
  return hash("sha256", certificate, "hex");
}

/** ECDSA with SHA-256, DER form. Nothing is signed by a key that is no P-256 point. */
export function verifyBytes(bytes: Uint8Array, signature: Uint8Array, point: Uint8Array | undefined): boolean {
  const key = point === undefined ? undefined : keyOfPoint(point);
  return key !== undefined && verify("sha256", bytes, key, signature);
}

/** Throws Error when the key is not P-256. */
export function pointOf(key: KeyObject): Uint8Array {
  const jwk = key.export({ format: "jwk" });
  if (jwk.kty !== "EC" || jwk.crv !== "P-256" || jwk.x === undefined || jwk.y === undefined)
    throw new Error("it is not a P-256 key");
  const point = new Uint8Array(POINT_BYTES);
  point[0] = 4;
  point.set(Buffer.from(jwk.x, "base64url"), 1);
  point.set(Buffer.from(jwk.y, "base64url"), 33);
  return point;
}
