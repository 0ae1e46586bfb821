// What this node was told of its fleet and needs at every start: where the broker is, the CA of its certificates (the configuration file goes before both), and its group.

import type { Store } from "../../store.ts";

const MIGRATIONS = ["CREATE TABLE fleet_setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"];

export interface FleetSetting {
  servers(): readonly string[];
  /** PEM; empty for those of the system. */
  brokerCa(): string;
  /** Of this node's last own entry in the roster; undefined when it never had one. */
  group(): string | undefined;
  keepGroup(group: string): void;
  keepBroker(broker: { readonly servers: readonly string[]; readonly ca: string }): void;
}

export function openFleetSetting(store: Store): FleetSetting {
  store.migrate("fleet_setting", MIGRATIONS);
  const get = store.prepare<{ value: string }>("SELECT value FROM fleet_setting WHERE name = ?");
  const put = store.prepare("INSERT INTO fleet_setting VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2");
  return {
    servers: () => (get.get("servers")?.value ?? "").split(" ").filter((server) => server !== ""),
    brokerCa: () => get.get("broker_ca")?.value ?? "",
    group: () => get.get("group")?.value,
    keepGroup: (group) => void put.run("group", group),
    keepBroker({ servers, ca }) {
      put.run("servers", servers.join(" "));
      put.run("broker_ca", ca);
    },
  };
}
