// Whether a bundle that is offered takes the place of the one that is held. Pure: two bundles in, a decision out. Never joins them.

import { fingerprintBundle } from "../bundle_fingerprint.ts";
import type { TrustBundle } from "../trust_bundle.ts";

export type BundleRefusalCode = "bundle_fingerprint" | "bundle_rollback" | "bundle_sequence_reused";

export type BundleDecision =
  | { readonly outcome: "take" }
  /** It says what is held already. */
  | { readonly outcome: "unchanged" }
  | { readonly outcome: "refuse"; readonly code: BundleRefusalCode; readonly fact: string };

export interface BundleOffer {
  readonly held: TrustBundle | undefined;
  readonly offered: TrustBundle;
  /** What the first bundle must have; later ones rest on those before them. */
  readonly pinned?: string | undefined;
}

/** SPIFFE Federation section 4.2: in order of sequence numbers; without them the latest that was fetched. */
export function decideUpdate({ held, offered, pinned }: BundleOffer): BundleDecision {
  const fingerprint = fingerprintBundle(offered);
  if (held === undefined) {
    if (pinned === undefined || pinned === fingerprint) return { outcome: "take" };
    const fact = `its fingerprint is ${fingerprint}, and ${pinned} is pinned`;
    return { outcome: "refuse", code: "bundle_fingerprint", fact };
  }
  const isSame = fingerprint === fingerprintBundle(held) && held.refreshHintSeconds === offered.refreshHintSeconds;
  if (held.sequence === undefined || offered.sequence === undefined) {
    return isSame && held.sequence === offered.sequence ? { outcome: "unchanged" } : { outcome: "take" };
  }
  if (offered.sequence < held.sequence) {
    const fact = `its sequence number is ${offered.sequence}, and ${held.sequence} is held: it goes back in time`;
    return { outcome: "refuse", code: "bundle_rollback", fact };
  }
  if (offered.sequence > held.sequence) return { outcome: "take" };
  if (fingerprint === fingerprintBundle(held)) return { outcome: "unchanged" };
  const fact = `its sequence number is ${offered.sequence} as that of the bundle held, and its keys are others`;
  return { outcome: "refuse", code: "bundle_sequence_reused", fact };
}
