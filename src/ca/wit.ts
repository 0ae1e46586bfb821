// The WIT authority of this node (incubating; only where the configuration asks for it): WIT-SVIDs with the key that each is bound to.

import { generateKeyPairSync, randomUUID } from "node:crypto";
import { RiprapError } from "../error.ts";
import type { SpiffeId } from "../spiffe_id.ts";
import type { JwtKey } from "../trust_bundle.ts";
import { signWitSvid } from "../wit_svid.ts";
import type { NodeAuthority } from "./node_authority.ts";
import { readRecord, requireCa } from "./state.ts";
import { TokenAuthority, type TokenAuthorityOptions } from "./token_authority.ts";
import { openTokenJournal } from "./token_journal.ts";

/** Worth nothing without its key, and so longer than a bearer token's. */
export const WIT_LIFETIME_SECONDS = 3600;
/** What the workload proves with; the standard's `cnf.jwk.alg`. */
const CONFIRMATION_ALGORITHM = "ES256";

export interface WitSvidRequest {
  readonly spiffeId: SpiffeId | string;
  /** 1 to 3600; an hour when not given. */
  readonly lifetimeSeconds?: number;
  /** Goes to the journal as JSON. */
  readonly context: Record<string, unknown>;
}

export interface IssuedWitSvid {
  readonly token: string;
  /** JWK in JSON of the private key in its `cnf`: for the workload alone. */
  readonly privateKey: string;
  readonly tokenId: string;
  readonly expiresAt: Date;
}

export interface WitAuthority {
  /** What validates its tokens: every key in the bundle. */
  readonly keys: readonly JwtKey[];
  /** Throws RiprapError `svid_refused`, `spiffe_id_invalid`, `lifetime_invalid`, `issuer_expired`, `issuer_revoked`, `id_revoked`. */
  issue(request: WitSvidRequest): Promise<IssuedWitSvid>;
}

export interface WitOptions extends TokenAuthorityOptions {
  readonly authority: Pick<NodeAuthority, "requireIssuable">;
  /** `iss`, as of JWT-SVIDs. */
  readonly issuer?: string;
}

export function openWitKey(options: WitOptions): WitAuthority {
  const { stateDir, clock, store, authority } = options;
  const { trustDomain } = readRecord(requireCa(stateDir).record);
  const issuer = options.issuer ?? trustDomain.id.toString();
  const signing = new TokenAuthority("wit", options);
  const journal = openTokenJournal(store);
  return {
    get keys() {
      return signing.keys;
    },
    async issue({ spiffeId, lifetimeSeconds = WIT_LIFETIME_SECONDS, context }) {
      const id = authority.requireIssuable(spiffeId);
      if (!Number.isInteger(lifetimeSeconds) || lifetimeSeconds < 1 || lifetimeSeconds > WIT_LIFETIME_SECONDS) {
        const fact = `its life of ${lifetimeSeconds} seconds is not between 1 and ${WIT_LIFETIME_SECONDS}`;
        throw new RiprapError("lifetime_invalid", `Cannot issue a WIT-SVID for ${id}: ${fact}`);
      }
      const by = signing.signer();
      const issuedAt = Math.floor(clock.now() / 1000);
      const expiresAt = Math.min(issuedAt + lifetimeSeconds, Math.floor(by.notAfter / 1000));
      const about = { tokenId: randomUUID(), issuedAt, expiresAt };
      // Journal first: a token that exists without an entry could never be accounted for.
      journal.write([{ ...about, kind: "wit", spiffeId: id.toString(), audience: [], keyId: by.keyId, context }]);
      const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
      const bound = { confirmation: publicKey, confirmationAlgorithm: CONFIRMATION_ALGORITHM };
      const token = await signWitSvid({ ...about, ...bound, spiffeId: id, issuer }, by);
      const jwk = { ...privateKey.export({ format: "jwk" }), alg: CONFIRMATION_ALGORITHM };
      return { token, privateKey: JSON.stringify(jwk), tokenId: about.tokenId, expiresAt: new Date(expiresAt * 1000) };
    },
  };
}
