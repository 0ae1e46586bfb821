// What a reader of JWTs who knows OpenID Connect and not SPIFFE is told: the issuer's configuration and its keys. Pure.

import type { JwtKey } from "../trust_bundle.ts";

/** What the keys of one kind sign with here (RFC 7518 section 3.1). */
const ALGORITHM: Readonly<Record<JwtKey["kind"], string>> = {
  RSA: "RS256",
  "P-256": "ES256",
  "P-384": "ES384",
  "P-521": "ES512",
};

/** OpenID Connect Discovery 1.0 section 3, as far as it concerns whoever only validates tokens. */
export function describeDiscovery(issuer: string, keys: readonly JwtKey[]): Readonly<Record<string, unknown>> {
  return {
    issuer,
    jwks_uri: `${issuer}/keys`,
    response_types_supported: ["id_token"],
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: [...new Set(keys.map(({ kind }) => ALGORITHM[kind]))].sort(),
    claims_supported: ["iss", "sub", "aud", "exp", "iat", "jti"],
  };
}

/** The keys as a JWK Set (RFC 7517 section 5) in the words of OpenID Connect, where a key that verifies has the use `sig`. */
export async function writeKeySet(keys: readonly JwtKey[]): Promise<string> {
  // Loaded when someone asks: most nodes serve no discovery.
  const { exportJWK } = await import("jose");
  const set = keys.map(async ({ keyId, kind, key }) => {
    return { kid: keyId, use: "sig", alg: ALGORITHM[kind], ...(await exportJWK(key)) };
  });
  return JSON.stringify({ keys: await Promise.all(set) });
}
