// The JWT authority of this node: the JWT-SVIDs that it signs, and the keys that validate them. Nothing is signed before its journal entry is committed.

import { RiprapError } from "../error.ts";
import { signJwtSvid } from "../jwt_svid.ts";
import type { SpiffeId } from "../spiffe_id.ts";
import { type JwtKey, writeJwtBundle } from "../trust_bundle.ts";
import type { NodeAuthority } from "./node_authority.ts";
import { readRecord, requireCa } from "./state.ts";
import { TokenAuthority, type TokenAuthorityOptions } from "./token_authority.ts";
import { openTokenJournal } from "./token_journal.ts";

/** A bearer token: whoever sees one can use it until it ends. */
export const JWT_LIFETIME_SECONDS = 300;
export const JWT_LIFETIME_SECONDS_MAX = 3600;
export const AUDIENCES_MAX = 16;
export const AUDIENCE_BYTES_MAX = 1024;

export interface JwtSvidRequest {
  readonly spiffeId: SpiffeId | string;
  /** One at best: whoever gets the token can show it to each of them. */
  readonly audience: readonly string[];
  /** 1 to 3600; five minutes when not given. */
  readonly lifetimeSeconds?: number;
  readonly issuer?: string;
  /** Goes to the journal as JSON. */
  readonly context: Record<string, unknown>;
}

export interface IssuedJwtSvid {
  readonly token: string;
  readonly tokenId: string;
  readonly expiresAt: Date;
}

export interface JwtAuthority {
  /** What validates the tokens that it signs now. */
  readonly key: JwtKey;
  /** What validates its tokens: every key in the bundle. */
  readonly keys: readonly JwtKey[];
  /** The `iss` of its tokens. */
  readonly issuer: string;
  /** The keys as a plain JWK Set (RFC 7517), for OIDC discovery. */
  jwks(): string;
  /** Throws RiprapError `svid_refused`, `spiffe_id_invalid`, `audience_invalid`, `lifetime_invalid`, `issuer_expired`, `issuer_revoked`. */
  issue(request: JwtSvidRequest): Promise<IssuedJwtSvid>;
}

export interface JwtOptions extends TokenAuthorityOptions {
  /** Says which IDs this node may issue. */
  readonly authority: Pick<NodeAuthority, "requireIssuable">;
  /** `iss`: a URL under which OIDC discovery finds the keys; the trust domain's ID unless given. */
  readonly issuer?: string;
}

/** Makes the key (0600) when there is none. RiprapError `ca_key_invalid`, `ca_not_initialised`, `state_not_private`. */
export function openJwtKey(options: JwtOptions): JwtAuthority {
  const { stateDir, clock, store, authority } = options;
  const { trustDomain } = readRecord(requireCa(stateDir).record);
  const issuer = options.issuer ?? trustDomain.id.toString();
  const signing = new TokenAuthority("jwt", options);
  const journal = openTokenJournal(store);
  return {
    issuer,
    get key() {
      const { keyId } = signing.signer();
      return signing.keys.find((key) => key.keyId === keyId) as JwtKey;
    },
    get keys() {
      return signing.keys;
    },
    jwks: () => writeJwtBundle({ jwt: signing.keys }),
    async issue({ spiffeId, audience, lifetimeSeconds = JWT_LIFETIME_SECONDS, issuer: other, context }) {
      const id = authority.requireIssuable(spiffeId);
      checkAudience(audience);
      if (!Number.isInteger(lifetimeSeconds) || lifetimeSeconds < 1 || lifetimeSeconds > JWT_LIFETIME_SECONDS_MAX) {
        const fact = `its life of ${lifetimeSeconds} seconds is not between 1 and ${JWT_LIFETIME_SECONDS_MAX}`;
        throw new RiprapError("lifetime_invalid", `Cannot issue a JWT-SVID for ${id}: ${fact}`);
      }
      const by = signing.signer();
      const issuedAt = Math.floor(clock.now() / 1000);
      const expiresAt = Math.min(issuedAt + lifetimeSeconds, Math.floor(by.notAfter / 1000));
      const claims = { audience, tokenId: Bun.randomUUIDv7(), issuedAt, expiresAt };
      // Journal first: a token that exists without an entry could never be accounted for. Its ID is in the order of time, as the journal is.
      await journal.add({ ...claims, kind: "jwt", spiffeId: id.toString(), keyId: by.keyId, context });
      const token = await signJwtSvid({ ...claims, spiffeId: id, issuer: other ?? issuer }, by);
      return { token, tokenId: claims.tokenId, expiresAt: new Date(expiresAt * 1000) };
    },
  };
}

function checkAudience(audience: readonly string[]): void {
  const fact =
    audience.length === 0
      ? "it is for no audience"
      : audience.length > AUDIENCES_MAX
        ? `it is for more than ${AUDIENCES_MAX} audiences`
        : audience.some((value) => value === "")
          ? "an audience is empty"
          : audience.some((value) => Buffer.byteLength(value) > AUDIENCE_BYTES_MAX)
            ? `an audience is longer than ${AUDIENCE_BYTES_MAX} bytes`
            : undefined;
  if (fact !== undefined) throw new RiprapError("audience_invalid", `Cannot issue a JWT-SVID: ${fact}`);
}
