// What this node was told when it joined and needs at every start: where the broker is. The configuration file goes before it.

import type { Store } from "../../store.ts";

const MIGRATIONS = ["CREATE TABLE fleet_setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"];

export interface FleetSetting {
  servers(): readonly string[];
  keepServers(servers: readonly string[]): void;
}

export function openFleetSetting(store: Store): FleetSetting {
  store.migrate("fleet_setting", MIGRATIONS);
  const get = store.prepare<{ value: string }>("SELECT value FROM fleet_setting WHERE name = ?");
  const put = store.prepare("INSERT INTO fleet_setting VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2");
  return {
    servers: () => (get.get("servers")?.value ?? "").split(" ").filter((server) => server !== ""),
    keepServers: (servers) => void put.run("servers", servers.join(" ")),
  };
}
