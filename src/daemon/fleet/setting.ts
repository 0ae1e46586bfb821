// What this node was told when it joined and needs at every start: where the broker is, and the CA of its certificates. The configuration file goes before it.

import type { Store } from "../../store.ts";

const MIGRATIONS = ["CREATE TABLE fleet_setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"];

export interface FleetSetting {
  servers(): readonly string[];
  /** PEM; empty for those of the system. */
  brokerCa(): string;
  keepBroker(broker: { readonly servers: readonly string[]; readonly ca: string }): void;
}

export function openFleetSetting(store: Store): FleetSetting {
  store.migrate("fleet_setting", MIGRATIONS);
  const get = store.prepare<{ value: string }>("SELECT value FROM fleet_setting WHERE name = ?");
  const put = store.prepare("INSERT INTO fleet_setting VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2");
  return {
    servers: () => (get.get("servers")?.value ?? "").split(" ").filter((server) => server !== ""),
    brokerCa: () => get.get("broker_ca")?.value ?? "",
    keepBroker({ servers, ca }) {
      put.run("servers", servers.join(" "));
      put.run("broker_ca", ca);
    },
  };
}
