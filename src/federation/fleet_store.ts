// Keeps the statements that stand in the node's database, so that a restart without any peer goes on from them. Knows a table, not what a statement says.
import type { Store } from "../store.ts";
import type { StatementStore } from "./fleet_state.ts";
import type { EpochStore } from "./voice.ts";

const ROOM = "fleet_statement";
const MIGRATIONS = [
  `CREATE TABLE fleet_statement (key TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT, WITHOUT ROWID;
   CREATE TABLE fleet_epoch (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL) STRICT;`,
];

/** The statements of this node's fleet. */
export function openStatementStore(store: Store): StatementStore {
  store.migrate(ROOM, MIGRATIONS);
  const put = store.prepare("INSERT INTO fleet_statement VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET bytes = ?2");
  const remove = store.prepare("DELETE FROM fleet_statement WHERE key = ?");
  const load = store.prepare<{ bytes: Uint8Array }>("SELECT bytes FROM fleet_statement");
  return {
    load: () => load.all().map(({ bytes }) => bytes),
    put: (key, bytes) => void put.run(key, bytes),
    remove: (key) => void remove.run(key),
    atomically: (work) => store.transaction(work),
  };
}

/** How often this node has begun to speak. */
export function openEpochStore(store: Store): EpochStore {
  store.migrate(ROOM, MIGRATIONS);
  const read = store.prepare<{ epoch: number }>("SELECT epoch FROM fleet_epoch");
  const write = store.prepare("INSERT INTO fleet_epoch VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET epoch = ?1");
  return {
    read: () => read.get()?.epoch ?? 0,
    write(epoch) {
      write.run(epoch);
      store.settle();
    },
  };
}
