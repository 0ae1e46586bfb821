// Opens what keeps the bundles of other trust domains fresh, over HTTPS and over the broker, with this node's authority to judge who speaks.

import type { NodeAuthority } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import type { TrustDomain } from "../../spiffe_id.ts";
import type { Store } from "../../store.ts";
import type { TrustBundle } from "../../trust_bundle.ts";
import type { BundleBook } from "../bundle.ts";
import type { DaemonConfig } from "../config.ts";
import type { Log } from "../log.ts";
import { Courier } from "./courier.ts";
import { BundlePoller } from "./poller.ts";
import { openSequenceStore } from "./sequence.ts";

export interface PollerGround {
  readonly config: Pick<DaemonConfig, "webRoots">;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  readonly authority: Pick<NodeAuthority, "trustDomain" | "verifyPeerChain">;
  readonly bundles: BundleBook;
}

export function openPoller({ config, clock, log, random, authority, bundles }: PollerGround): BundlePoller {
  const bundleOf = (trustDomain: TrustDomain) => bundles.bundleOf(trustDomain);
  const parts = {
    clock,
    webRootsPath: config.webRoots,
    authenticate: (chain: readonly Uint8Array[]) => authority.verifyPeerChain(chain, bundleOf),
  };
  return new BundlePoller({
    ...{ book: bundles, clock, log, random },
    isOwn: ({ name }) => name === authority.trustDomain,
    async exchange(url, endpoint, signal) {
      // TLS is loaded where a rule names an endpoint.
      const { exchangeHttps } = await import("./exchange.ts");
      return exchangeHttps(url, endpoint, { ...parts, signal });
    },
  });
}

export interface CourierGround extends Omit<PollerGround, "config" | "authority"> {
  readonly authority: NodeAuthority;
  readonly store: Store;
  readonly fleet: { isSpeaker(): boolean };
  /** This trust domain's own bundle; undefined while it is not open yet. */
  published(): TrustBundle | undefined;
}

export function openCourier({ bundles, store, published, fleet, ...parts }: CourierGround): Courier {
  return new Courier({
    ...parts,
    ...{ book: bundles, sequences: openSequenceStore(store), own: published, isSpeaker: () => fleet.isSpeaker() },
  });
}
