// JWT-SVIDs: signed and judged, by SPIFFE's JWT-SVID and RFC 7519. Pure: keys, bundles and the time come as values.

import type { JsonValue } from "./json.ts";
import {
  type Claims,
  checkSignature,
  checkTimes,
  layOutCompact,
  parseAlgorithm,
  parseCompact,
  parseSubject,
  signAside,
  signNow,
  type TokenRefusalCode,
  TokenRefused,
  type TokenSigning,
  type Unsigned,
} from "./jws.ts";
import type { SpiffeId, TrustDomain } from "./spiffe_id.ts";
import type { JwtKey } from "./trust_bundle.ts";

/** Clocks of two nodes are apart by this much at most. */
export const LEEWAY_SECONDS = 10;
/** As of an X509-SVID. Who could sign a longer one could sign for ever. */
export const VALIDITY_SECONDS_MAX = 86_400;
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

/** Always with `kid`, without which common validators refuse (and JWT-SVID section 2.2 leaves it open). Signed on a thread of the runtime's. */
export async function signJwtSvid(claims: JwtSvidClaims, by: TokenSigning): Promise<string> {
  return signAside(layOut(claims, by));
}

/** The same while everybody waits. */
export function signJwtSvidNow(claims: JwtSvidClaims, by: TokenSigning): string {
  return signNow(layOut(claims, by));
}

function layOut(claims: JwtSvidClaims, by: TokenSigning): Unsigned {
  const { spiffeId, audience, tokenId, issuedAt, expiresAt, issuer } = claims;
  const payload = {
    // Left out of JSON where there is none.
    iss: issuer,
    sub: spiffeId.toString(),
    aud: audience,
    exp: expiresAt,
    iat: issuedAt,
    jti: tokenId,
  };
  return layOutCompact(payload, by, "JWT");
}

export type JwtAnswer =
  | {
      readonly ok: true;
      readonly spiffeId: SpiffeId;
      readonly audience: readonly string[];
      readonly expiresAt: number;
      readonly claims: Claims;
    }
  | { readonly ok: false; readonly code: TokenRefusalCode; readonly message: string };

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
    const { header, claims } = parseCompact(token);
    const by = checkHeader(header);
    const spiffeId = parseSubject(claims);
    const now = validation.now / 1000;
    const { expiresAt } = checkTimes(claims, { now, leeway: LEEWAY_SECONDS, most: VALIDITY_SECONDS_MAX });
    const audience = checkAudience(claims, validation.audience);
    const keys = validation.keysOf(spiffeId.trustDomain);
    if (keys === undefined || keys.length === 0) {
      throw new TokenRefused("domain_untrusted", `there is no JWT bundle of the trust domain ${spiffeId.trustDomain}`);
    }
    await checkSignature(token, { ...by, keys });
    return { ok: true, spiffeId, audience, expiresAt, claims };
  } catch (thrown) {
    if (!(thrown instanceof TokenRefused)) throw thrown;
    return { ok: false, code: thrown.code, message: `Cannot accept the JWT-SVID: ${thrown.message}` };
  }
}

function checkHeader(header: Claims): { algorithm: string; keyId: string | undefined } {
  const { kid, typ } = header;
  const algorithm = parseAlgorithm(header["alg"]);
  if (typ !== undefined && typ !== "JWT" && typ !== "JOSE")
    throw new TokenRefused("header_refused", "its typ is no JWT");
  if (kid !== undefined && (typeof kid !== "string" || kid === ""))
    throw new TokenRefused("header_refused", "its kid is no text");
  if (!Object.keys(header).every((name) => HEADERS.has(name)))
    throw new TokenRefused("header_refused", "it has a header besides alg, kid and typ");
  return { algorithm, keyId: kid };
}

function checkAudience(claims: Claims, wanted: string): readonly string[] {
  const value = claims["aud"];
  if (value === undefined) throw new TokenRefused("claim_missing", "it has no aud");
  const audience = Array.isArray(value) ? value : [value];
  if (!isTexts(audience)) throw new TokenRefused("claim_invalid", "its aud is neither a text nor a list of texts");
  if (audience.length === 0) throw new TokenRefused("claim_missing", "its aud is empty");
  if (!audience.includes(wanted)) throw new TokenRefused("audience_mismatch", "it is meant for another audience");
  return audience;
}

function isTexts(list: readonly JsonValue[]): list is readonly string[] {
  return list.every((item) => typeof item === "string");
}
