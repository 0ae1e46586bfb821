// WIT-SVIDs: signed and judged, by SPIFFE's WIT-SVID (incubating, spiffe/spiffe at 665a28f) with proofs by draft-ietf-wimse-wpt-01. Pure.

import { createPublicKey, hash, type KeyObject } from "node:crypto";
import { isJsonObject, type JsonValue } from "./json.ts";
import {
  type Claims,
  checkSignature,
  checkTimes,
  isSignedBy,
  kindOfAlgorithm,
  parseAlgorithm,
  parseCompact,
  parseSubject,
  signCompact,
  type TokenRefusalCode,
  TokenRefused,
  type TokenSigning,
} from "./jws.ts";
import type { SpiffeId, TrustDomain } from "./spiffe_id.ts";
import { type JwtKey, jwtKeyOf } from "./trust_bundle.ts";

/** The standard's revision that this is written to. */
export const WIT_SVID_REVISION = "spiffe/spiffe@665a28f";
const WIT_TYPE = "wit+jwt";
const PROOF_TYPE = "wpt+jwt";
const LEEWAY_SECONDS = 10;
/** Section 3.5 lets a validator bound the life. As of an X509-SVID. */
const VALIDITY_SECONDS_MAX = 86_400;
/** Section 7.2: as short as can be. */
export const PROOF_SECONDS_MAX = 300;

export interface WitSvidClaims {
  readonly spiffeId: SpiffeId;
  readonly tokenId: string;
  /** Seconds since the epoch. */
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly issuer: string;
  /** The workload's own: what it proves possession of. */
  readonly confirmation: KeyObject;
  readonly confirmationAlgorithm: string;
}

/** Section 4: without `aud`, which a WIT-SVID must not have. */
export function signWitSvid(claims: WitSvidClaims, by: TokenSigning): Promise<string> {
  const { spiffeId, tokenId, issuedAt, expiresAt, issuer, confirmation, confirmationAlgorithm } = claims;
  const jwk = { ...confirmation.export({ format: "jwk" }), alg: confirmationAlgorithm };
  const payload = {
    iss: issuer,
    sub: spiffeId.toString(),
    exp: expiresAt,
    iat: issuedAt,
    jti: tokenId,
    cnf: { jwk },
  };
  return signCompact(payload, by, WIT_TYPE);
}

export interface WitValidation {
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** The WIT keys of a trust domain; undefined: it is not trusted. */
  keysOf(trustDomain: TrustDomain): readonly JwtKey[] | undefined;
  /** A Workload Proof Token of the presenter: nothing is accepted without (sections 4 and 7.1). */
  readonly proof: string;
  /** What the proof must be for: the target of the request, without query and fragment. */
  readonly audience: string;
  /** Takes a proof's `jti`, once; false when it was seen before. It may forget after `PROOF_SECONDS_MAX`. */
  isFresh(proofId: string): boolean;
}

export type WitAnswer =
  | { readonly ok: true; readonly spiffeId: SpiffeId; readonly expiresAt: number; readonly claims: Claims }
  | { readonly ok: false; readonly code: TokenRefusalCode; readonly message: string };

/** Sections 2 to 4 and 7; never throws on what the tokens hold, and quotes nothing of them but names and numbers. */
export async function validateWitSvid(token: string, validation: WitValidation): Promise<WitAnswer> {
  try {
    const { header, claims } = parseCompact(token);
    const by = checkHeader(header);
    const spiffeId = parseSubject(claims);
    const now = validation.now / 1000;
    const { expiresAt } = checkTimes(claims, { now, leeway: LEEWAY_SECONDS, most: VALIDITY_SECONDS_MAX });
    if (claims["aud"] !== undefined) throw new TokenRefused("claim_invalid", "it has an aud, as no WIT-SVID has");
    const confirmation = parseConfirmation(claims["cnf"]);
    const keys = validation.keysOf(spiffeId.trustDomain);
    if (keys === undefined || keys.length === 0) {
      throw new TokenRefused("domain_untrusted", `there is no WIT bundle of the trust domain ${spiffeId.trustDomain}`);
    }
    await checkSignature(token, { ...by, keys });
    await checkProof(token, confirmation, validation);
    return { ok: true, spiffeId, expiresAt, claims };
  } catch (thrown) {
    if (!(thrown instanceof TokenRefused)) throw thrown;
    return { ok: false, code: thrown.code, message: `Cannot accept the WIT-SVID: ${thrown.message}` };
  }
}

/** Headers that are not known are passed over, unless `crit` asks that they be understood (section 2.4). */
function checkHeader(header: Claims): { algorithm: string; keyId: string } {
  const { kid, typ, crit } = header;
  const algorithm = parseAlgorithm(header["alg"]);
  if (typ !== WIT_TYPE) throw new TokenRefused("header_refused", `its typ is not ${WIT_TYPE}`);
  if (typeof kid !== "string" || kid === "") throw new TokenRefused("header_refused", "it has no kid");
  if (crit !== undefined) throw new TokenRefused("header_refused", "it has headers that must be understood");
  return { algorithm, keyId: kid };
}

interface Confirmation {
  readonly key: KeyObject;
  readonly algorithm: string;
}

/** RFC 7800 section 3.2, with the `alg` that section 3.2 of the standard asks for. */
function parseConfirmation(cnf: JsonValue | undefined): Confirmation {
  if (cnf === undefined) throw new TokenRefused("claim_missing", "it has no cnf");
  const jwk = isJsonObject(cnf) ? cnf["jwk"] : undefined;
  if (!isJsonObject(jwk)) throw new TokenRefused("claim_invalid", "its cnf holds no jwk");
  if (["d", "p", "q", "dp", "dq", "qi", "k", "oth"].some((name) => jwk[name] !== undefined))
    throw new TokenRefused("claim_invalid", "its cnf holds a private key");
  const algorithm = parseAlgorithm(jwk["alg"], "the alg of its cnf");
  try {
    const { kty, crv, x, y, n, e } = jwk;
    const parts = Object.entries({ kty, crv, x, y, n, e }).filter(([, value]) => typeof value === "string");
    const key = createPublicKey({ key: Object.fromEntries(parts), format: "jwk" });
    if (jwtKeyOf(key, "").kind === kindOfAlgorithm(algorithm)) return { key, algorithm };
  } catch {
    throw new TokenRefused("claim_invalid", "the key in its cnf cannot be read");
  }
  throw new TokenRefused("claim_invalid", "the key in its cnf is not of its alg");
}

/** draft-ietf-wimse-wpt-01 section 2: by the key of the cnf, for this token and this audience, short-lived and used once. */
async function checkProof(token: string, by: Confirmation, validation: WitValidation): Promise<void> {
  const { proof, audience, isFresh } = validation;
  const invalid = (fact: string) => new TokenRefused("proof_invalid", `its proof of possession ${fact}`);
  const { header, claims } = readProof(proof, invalid);
  if (header["typ"] !== PROOF_TYPE) throw invalid(`is of another typ than ${PROOF_TYPE}`);
  if (header["alg"] !== by.algorithm) throw invalid("is signed with another alg than its cnf has");
  if (header["crit"] !== undefined) throw invalid("has headers that must be understood");
  if (claims["wth"] !== hash("sha256", token, "base64url")) throw invalid("is for another token");
  const { aud, jti } = claims;
  if (aud !== audience && !(Array.isArray(aud) && aud.includes(audience))) throw invalid("is for another audience");
  if (typeof jti !== "string" || jti === "" || jti.length > 256) throw invalid("has no jti");
  try {
    const bound = { now: validation.now / 1000, leeway: LEEWAY_SECONDS, most: PROOF_SECONDS_MAX };
    checkTimes(claims, bound);
  } catch (thrown) {
    throw thrown instanceof TokenRefused ? invalid(`cannot be taken now: ${thrown.message}`) : thrown;
  }
  if (!(await isSignedBy(proof, by.key, by.algorithm))) throw invalid("is not signed by the key of its cnf");
  // Last: a proof that somebody else made up must not spend the ID of a good one.
  if (!isFresh(jti)) throw invalid("was used before");
}

function readProof(proof: string, invalid: (fact: string) => TokenRefused): { header: Claims; claims: Claims } {
  if (proof === "") throw invalid("is missing");
  try {
    return parseCompact(proof);
  } catch (thrown) {
    throw thrown instanceof TokenRefused ? invalid(`cannot be read: ${thrown.message}`) : thrown;
  }
}
