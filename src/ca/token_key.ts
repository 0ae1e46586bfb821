// The keys that sign tokens, JWT-SVIDs and WIT-SVIDs: made, kept in the key store, opened. P-256 or RSA; a private key leaves this file as a KeyObject alone.

import { createPrivateKey, createPublicKey, generateKeyPairSync, hash, type KeyObject } from "node:crypto";
import { RiprapError } from "../error.ts";
import { type JwtKey, jwtKeyOf } from "../trust_bundle.ts";
import type { KeyStore } from "./key_store.ts";
import type { AuthorityKind, AuthorityRecord } from "./life_cycle.ts";

export type TokenAlgorithm = AuthorityRecord["algorithm"];
export type TokenAuthorityKind = Exclude<AuthorityKind, "x509">;

/** What NIST SP 800-57 gives until 2030; longer ones cost four times the time of every signature. */
const RSA_BITS = 2048;

export interface TokenKeyPlan {
  readonly kind: TokenAuthorityKind;
  readonly algorithm: TokenAlgorithm;
  /** A name that the key store has no live key under. */
  readonly keyName: string;
  readonly now: number;
  readonly lifetimeMs: number;
}

/** Makes a key; it is kept when this returns. The record is of phase `prepared`, and the caller's to keep. */
export function createTokenKey(keys: KeyStore, plan: TokenKeyPlan): AuthorityRecord {
  const privateKey = generateKey(plan.algorithm);
  const secret = privateKey.export({ format: "der", type: "pkcs8" });
  try {
    keys.sealSecret(plan.keyName, secret);
  } finally {
    secret.fill(0);
  }
  return recordOfKey(createPublicKey(privateKey), plan);
}

/** One in 64 has a name that begins with a hyphen, which a command line takes for an option: then another is made. */
function generateKey(algorithm: TokenAlgorithm): KeyObject {
  for (;;) {
    const { privateKey, publicKey } =
      algorithm === "ES256"
        ? generateKeyPairSync("ec", { namedCurve: "P-256" })
        : generateKeyPairSync("rsa", { modulusLength: RSA_BITS });
    if (!thumbprint(publicKey).startsWith("-")) return privateKey;
  }
}

/** The record of a key that is in the key store already. */
export function recordOfKey(publicKey: KeyObject, plan: TokenKeyPlan): AuthorityRecord {
  const { kind, algorithm, keyName, now, lifetimeMs } = plan;
  return {
    ...{ kind, algorithm, keyName },
    id: thumbprint(publicKey),
    phase: "prepared",
    material: new Uint8Array(publicKey.export({ format: "der", type: "spki" })),
    chain: new Uint8Array(0),
    notAfter: now + lifetimeMs,
    preparedAt: now,
    ...{
      publishedAt: undefined,
      activatedAt: undefined,
      retiredAt: undefined,
      taintedAt: undefined,
      revokedAt: undefined,
    },
  };
}

/** Throws RiprapError `ca_key_invalid`, and what the key store throws. */
export function openTokenKey(keys: KeyStore, name: string): KeyObject {
  const secret = keys.openSecret(name);
  try {
    const bytes = Buffer.from(secret.buffer, secret.byteOffset, secret.length);
    const key = createPrivateKey({ key: bytes, format: "der", type: "pkcs8" });
    jwtKeyOf(createPublicKey(key), "");
    return key;
  } catch (cause) {
    const fact = "it is neither a P-256 private key nor an RSA one in PKCS#8 DER";
    const remedy = "restore it from a copy, or remove it: the next start makes another";
    throw new RiprapError("ca_key_invalid", `Cannot use the key ca/${name}.key: ${fact}; ${remedy}`, { cause });
  } finally {
    secret.fill(0);
  }
}

export function algorithmOf(key: KeyObject): TokenAlgorithm {
  return key.asymmetricKeyType === "rsa" ? "RS256" : "ES256";
}

/** As the bundle has it. */
export function tokenKeyOf({ id, material }: Pick<AuthorityRecord, "id" | "material">): JwtKey {
  return jwtKeyOf(createPublicKey({ key: Buffer.from(material), format: "der", type: "spki" }), id);
}

/** RFC 7638: the same key has the same name everywhere, and two keys never share one. */
export function thumbprint(key: KeyObject): string {
  const { crv, e, kty, n, x, y } = key.export({ format: "jwk" });
  // Its members in the order of their names, and no others (section 3.2).
  const members = kty === "RSA" ? { e, kty, n } : { crv, kty, x, y };
  return hash("sha256", JSON.stringify(members), "base64url");
}
