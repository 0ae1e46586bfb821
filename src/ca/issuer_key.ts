// The keys of CAs: which are strong enough to end or carry a path, and whether a certificate is signed by one. Leaves have other bounds, which are the chain's.

import { createPublicKey, type KeyObject, verify } from "node:crypto";
import type { Certificate } from "./certificate.ts";

/** What NIST SP 800-57 gives until 2030; above, a verification takes a millisecond and more, which every handshake of a peer pays. */
const RSA_BITS_MIN = 2048;
const RSA_BITS_MAX = 4096;
/** FIPS 186-5 section A.1.1 has exponents from here on; the bound above keeps a verification cheap. */
const RSA_EXPONENT_MIN = 65_537n;
const RSA_EXPONENT_MAX = 0xffff_ffffn;

type KeyKind = "ec" | "rsa";

interface SignatureScheme {
  readonly kind: KeyKind;
  readonly hash: "sha256" | "sha384" | "sha512";
}

/** By the OID of the signature: RFC 5758 section 3.2 and RFC 4055 section 5. None with SHA-1, none of a hash that the certificate chooses (RSASSA-PSS). */
const SCHEMES: ReadonlyMap<string, SignatureScheme> = new Map([
  ["1.2.840.10045.4.3.2", { kind: "ec", hash: "sha256" }],
  ["1.2.840.10045.4.3.3", { kind: "ec", hash: "sha384" }],
  ["1.2.840.10045.4.3.4", { kind: "ec", hash: "sha512" }],
  ["1.2.840.113549.1.1.11", { kind: "rsa", hash: "sha256" }],
  ["1.2.840.113549.1.1.12", { kind: "rsa", hash: "sha384" }],
  ["1.2.840.113549.1.1.13", { kind: "rsa", hash: "sha512" }],
]);
const CURVES: ReadonlySet<string> = new Set(["prime256v1", "secp384r1"]);

export function isSignatureTaken(algorithm: string): boolean {
  return SCHEMES.has(algorithm);
}

/** Why a key cannot be a CA's here; undefined: it can. */
export function issuerKeyFault({ spki }: Pick<Certificate, "spki">): string | undefined {
  const key = tryParse(spki);
  if (key === undefined) return "a key that cannot be read";
  const { namedCurve, modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === "ec")
    return CURVES.has(namedCurve ?? "") ? undefined : "a key of a curve that is neither P-256 nor P-384";
  // A key that is bound to RSASSA-PSS is of another type.
  if (key.asymmetricKeyType !== "rsa") return "a key that is neither ECDSA's nor RSA's";
  if (modulusLength < RSA_BITS_MIN || modulusLength > RSA_BITS_MAX)
    return `an RSA key of ${modulusLength} bits, and ${RSA_BITS_MIN} to ${RSA_BITS_MAX} are taken`;
  return publicExponent >= RSA_EXPONENT_MIN && publicExponent <= RSA_EXPONENT_MAX
    ? undefined
    : "an RSA key with an exponent that is not between 65537 and 2^32";
}

/** The signature of one certificate under the key of another. That the key is strong enough is issuerKeyFault's affair. */
export function isSignedBy(
  { tbs, signature, signatureAlgorithm }: Pick<Certificate, "tbs" | "signature" | "signatureAlgorithm">,
  { spki }: Pick<Certificate, "spki">,
): boolean {
  const scheme = SCHEMES.get(signatureAlgorithm);
  const key = tryParse(spki);
  if (scheme === undefined || key === undefined || key.asymmetricKeyType !== scheme.kind) return false;
  // ECDSA in DER form, RSA in that of PKCS#1 version 1.5: what these OIDs mean, and what the runtime does unless told otherwise.
  return verify(scheme.hash, tbs, key, signature);
}

function tryParse(spki: Uint8Array): KeyObject | undefined {
  try {
    const bytes = Buffer.from(spki.buffer, spki.byteOffset, spki.length);
    return createPublicKey({ key: bytes, format: "der", type: "spki" });
  } catch {
    // No point of its curve, or a kind that the runtime does not know.
    return undefined;
  }
}
