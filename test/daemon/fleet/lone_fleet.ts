// A node's fleet as its daemon opens it from what lies on the disk, without a broker: the other rooms of the daemon do nothing unless the test says so.

import { openAuthority } from "../../../src/ca.ts";
import type { Clock } from "../../../src/clock.ts";
import type { FleetHooks } from "../../../src/daemon/fleet/hook.ts";
import { type FleetRoom, openFleet } from "../../../src/daemon/fleet/open.ts";
import type { Log } from "../../../src/daemon/log.ts";
import type { Store } from "../../../src/store.ts";

export interface LoneFleetParts {
  readonly stateDir: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly hooks?: Partial<FleetHooks>;
}

export async function openLoneFleet({ stateDir, store, clock, log, hooks }: LoneFleetParts): Promise<FleetRoom> {
  const authority = openAuthority({ stateDir, clock, store });
  const config = { stateDir, natsServers: [], natsCredentials: "", natsCa: "", nodeAddresses: ["10.0.0.1"] };
  const nothing = () => undefined;
  const all: FleetHooks = {
    ...{ addresses: () => ["10.0.0.1"], endpoints: () => [], jwtKeys: () => [] },
    applyResources: async () => undefined,
    ...{ trustChanged: nothing, renewed: nothing, endpointsChanged: nothing, connected: nothing },
    ...{ rootsChanged: nothing, keysChanged: nothing },
    ...hooks,
  };
  const room = await openFleet({ config, authority, store, clock, log, random: () => 0.5 }, all);
  authority.close();
  return room;
}
