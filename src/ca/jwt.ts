// The node's JWT authority: one ES256 key on disk beside the CA's, and the JWT-SVIDs that it signs. Nothing is signed before its journal entry is committed.

import { createPublicKey, hash, type KeyObject, randomUUID } from "node:crypto";
import type { Clock } from "../clock.ts";
import { RiprapError } from "../error.ts";
import { signJwtSvid } from "../jwt_svid.ts";
import type { SpiffeId } from "../spiffe_id.ts";
import type { Store } from "../store.ts";
import { type JwtKey, jwtKeyOf } from "../trust_bundle.ts";
import type { NodeAuthority } from "./authority.ts";
import { createKey, parsePrivateKey } from "./key.ts";
import { type KeyStore, openKeyStore } from "./key_store.ts";
import { KEY_NAME, requireCa } from "./state.ts";
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
  /** What validates its tokens. */
  readonly key: JwtKey;
  /** Throws RiprapError `svid_refused`, `spiffe_id_invalid`, `audience_invalid`, `lifetime_invalid`, `issuer_expired`, `issuer_revoked`. */
  issue(request: JwtSvidRequest): Promise<IssuedJwtSvid>;
}

export interface JwtOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  readonly store: Store;
  /** Says which IDs this node may issue. */
  readonly authority: Pick<NodeAuthority, "requireIssuable">;
}

/** Makes the key (0600) when there is none. RiprapError `ca_key_invalid`, `ca_not_initialised`, `state_not_private`. */
export function openJwtKey({ stateDir, clock, store, authority }: JwtOptions): JwtAuthority {
  const { jwtKey } = requireCa(stateDir);
  const privateKey = openPrivateKey(openKeyStore(stateDir), jwtKey);
  const publicKey = createPublicKey(privateKey);
  const key = jwtKeyOf(publicKey, thumbprint(publicKey));
  const journal = openTokenJournal(store);
  return {
    key,
    async issue({ spiffeId, audience, lifetimeSeconds = JWT_LIFETIME_SECONDS, issuer, context }) {
      const id = authority.requireIssuable(spiffeId);
      checkAudience(audience);
      if (!Number.isInteger(lifetimeSeconds) || lifetimeSeconds < 1 || lifetimeSeconds > JWT_LIFETIME_SECONDS_MAX) {
        const fact = `its life of ${lifetimeSeconds} seconds is not between 1 and ${JWT_LIFETIME_SECONDS_MAX}`;
        throw new RiprapError("lifetime_invalid", `Cannot issue a JWT-SVID for ${id}: ${fact}`);
      }
      const issuedAt = Math.floor(clock.now() / 1000);
      const claims = { spiffeId: id, audience, tokenId: randomUUID(), issuedAt, expiresAt: issuedAt + lifetimeSeconds };
      // Journal first: a token that exists without an entry could never be accounted for.
      journal.add({ ...claims, kind: "jwt", spiffeId: id.toString(), keyId: key.keyId, context });
      const by = { key: privateKey, keyId: key.keyId };
      const token = await signJwtSvid(issuer === undefined ? claims : { ...claims, issuer }, by);
      return { token, tokenId: claims.tokenId, expiresAt: new Date(claims.expiresAt * 1000) };
    },
  };
}

function openPrivateKey(keys: KeyStore, path: string): KeyObject {
  if (!keys.has(KEY_NAME.jwt)) {
    const { pkcs8 } = createKey();
    keys.sealSecret(KEY_NAME.jwt, pkcs8);
    pkcs8.fill(0);
  }
  const secret = keys.openSecret(KEY_NAME.jwt);
  try {
    return parsePrivateKey(secret, path);
  } finally {
    secret.fill(0);
  }
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

/** RFC 7638: the same key has the same name everywhere, and two keys never share one. */
function thumbprint(key: KeyObject): string {
  const { crv, kty, x, y } = key.export({ format: "jwk" });
  return hash("sha256", JSON.stringify({ crv, kty, x, y }), "base64url");
}
