// What the CA of a node does for the rest of riprap, as types. The doing is in authority.ts.

import type { Clock } from "../clock.ts";
import type { SpiffeId } from "../spiffe_id.ts";
import type { Store } from "../store.ts";
import type { BundleOf } from "../trust_bundle.ts";
import type { PeerAnswer } from "./chain.ts";
import type { CurvePoint } from "./key.ts";
import type { KeyStore } from "./key_store.ts";
import type { RevokedId } from "./revoked_id.ts";

export interface SvidRequest {
  readonly spiffeId: SpiffeId | string;
  /** Uncompressed P-256 point, 65 bytes; or one that is known to be such. */
  readonly publicKey: Uint8Array | CurvePoint;
  /** Whole seconds from now, 1 to 86400; the SVID ends with the intermediate if that is sooner. */
  readonly lifetimeSeconds: number;
  readonly dnsNames?: readonly string[];
  /** Goes to the journal as JSON: for which instance, process and labels. */
  readonly context: Record<string, unknown>;
}

export interface IssuedSvid {
  /** Lower-case hexadecimal. */
  readonly serial: string;
  /** DER: the SVID, then the intermediate(s), without the root. */
  readonly chain: readonly Uint8Array[];
  readonly notBefore: Date;
  readonly notAfter: Date;
}

export type Revocation = "revoked" | "already_revoked";

export interface AuthorityInfo {
  readonly trustDomain: string;
  readonly nodeName: string;
  readonly idPrefixes: readonly string[];
  readonly issuer: {
    readonly serial: string;
    readonly notBefore: Date;
    readonly notAfter: Date;
    readonly fingerprint: string;
    /** Fingerprint of the root that it leads to. */
    readonly root: string;
  };
  readonly roots: readonly { readonly fingerprint: string; readonly notAfter: Date }[];
  readonly holdsRootKey: boolean;
  readonly keyStorage: string;
  /** Sentences for `status` and `doctor`. */
  readonly warnings: readonly string[];
  readonly journal: { readonly svids: number; readonly authorities: number; readonly revocations: number };
}

export interface NodeAuthority {
  /** DER of every root of the trust domain. */
  readonly bundle: readonly Uint8Array[];
  readonly trustDomain: string;
  readonly nodeName: string;
  /** Milliseconds since the epoch: when this node's intermediate ends. */
  readonly notAfter: number;
  /** Grows when X509-SVIDs that are good by their time must be made anew all the same: the roots are others, or one is tainted. */
  readonly epoch: number;
  /** Throws RiprapError `svid_refused`, `spiffe_id_invalid`, `public_key_invalid`, `dns_name_invalid`, `lifetime_invalid`, `issuer_expired`, `issuer_revoked`, `id_revoked`. */
  issueX509Svid(request: SvidRequest): IssuedSvid;
  /** The same for many at once, in one commit: all or none. For bursts; a single SVID pays for a commit of its own, unless it is inside the caller's. */
  issueX509Svids(requests: readonly SvidRequest[]): IssuedSvid[];
  /** The ID, when this node may issue an SVID of any kind for it now. Throws what issueX509Svid throws about the ID and the issuer. */
  requireIssuable(spiffeId: SpiffeId | string): SpiffeId;
  /**
   * requireIssuable for many IDs: the issuer is looked at now, each ID when it is asked for. For use within the transaction or the turn in which it
   * was asked, no longer.
   */
  issuable(): (spiffeId: SpiffeId | string) => SpiffeId;
  /** Serial in lower-case hexadecimal, of this node or another. Committed when it returns. */
  revoke(serial: string, reason: string): Revocation;
  isRevoked(serial: string): boolean;
  /** Nothing is signed for the ID from now on, and no peer is taken that shows it. What was signed for it here is revoked too. */
  revokeId(spiffeId: SpiffeId, reason: string): Revocation;
  /** The ID may be used again; what was signed for it before stays revoked. False when it was not revoked. */
  liftId(spiffeId: SpiffeId): boolean;
  revokedIds(): readonly RevokedId[];
  /** The intermediates with this key (40 hexadecimal digits of its identifier) that this node signed; undefined when it signed none. */
  revokeKey(keyId: string, reason: string): Revocation | undefined;
  /** Why the ID is revoked; undefined when it is not. */
  revokedIdReason(spiffeId: SpiffeId): string | undefined;
  /** DER of the CRL of this node's intermediate (RFC 5280 section 5): the one in force, or a new one when something was revoked or half its time is over. */
  crl(): Uint8Array;
  /**
   * Never throws. `chain` is DER, leaf first, as it came over TLS. A leaf of another trust domain is judged by what `bundleOf` gives for that
   * domain alone, and refused where it gives nothing.
   */
  verifyPeerChain(chain: readonly Uint8Array[], bundleOf?: BundleOf): PeerAnswer;
  info(): AuthorityInfo;
  close(): void;
}

export interface OpenOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  readonly store: Store;
  /** The one that the daemon shares among all who sign; one of its own unless given. */
  readonly keys?: KeyStore;
}
