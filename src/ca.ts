// The CA of a node: make a trust domain, open the node's authority, enrol another node by file. The rooms are under ca/.
import { type NodeAuthority, type OpenOptions, openNodeAuthority } from "./ca/authority.ts";
import { createTrustDomain, type InitOptions } from "./ca/root.ts";

export type { AuthorityInfo, IssuedSvid, NodeAuthority, OpenOptions, Revocation, SvidRequest } from "./ca/authority.ts";
export type { PeerAccepted, PeerAnswer, PeerRefused, RefusalCode } from "./ca/chain.ts";
export type { InitOptions } from "./ca/root.ts";

/**
 * Makes a trust domain on its first node: a root (10 years) and this node's intermediate (1 year), in stateDir/ca, keys 0600.
 * Throws RiprapError `trust_domain_invalid`, `trust_domain_unconstrainable`, `node_name_invalid`, `ca_exists`, `state_not_private`.
 */
export function initTrustDomain(options: InitOptions): Promise<void> {
  return createTrustDomain(options);
}

/** Opens this node's CA. Throws RiprapError `ca_not_initialised`, `ca_state_invalid`, `ca_key_invalid`, `state_not_private`. The store stays the caller's. */
export function openAuthority(options: OpenOptions): NodeAuthority {
  return openNodeAuthority(options);
}
