// Opens what keeps the bundles of other trust domains fresh over HTTPS, with this node's authority to judge the servers by.

import type { NodeAuthority } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import type { TrustDomain } from "../../spiffe_id.ts";
import type { BundleBook } from "../bundle.ts";
import type { DaemonConfig } from "../config.ts";
import type { Log } from "../log.ts";
import { BundlePoller } from "./poller.ts";

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
