// What happened in the fleet as this node saw it, for a person to read back: joins and refusals, revocations, conflicts. Kept in SQLite, bounded.

import type { Clock } from "../../clock.ts";
import type { Store } from "../../store.ts";

const MIGRATIONS = [
  `CREATE TABLE fleet_event (
     id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, event TEXT NOT NULL, subject TEXT NOT NULL, detail TEXT NOT NULL
   ) STRICT;`,
];

/** What a stranger can cause: a share of their own, so that they push out nothing else. */
export const JOIN_REFUSED = "join refused";
/** As many as a person would read back; the oldest leave. */
const EVENTS_MAX = 9000;
const JOINS_REFUSED_MAX = 1000;
const PRUNE_EVERY = 256;
const CHARS_MAX = 1024;

/** One line of `riprap fleet log`. */
export interface FleetEvent {
  /** Milliseconds since the epoch. */
  readonly time: number;
  /** `node joined`, `join refused`, `revoked`, `conflict`, … */
  readonly event: string;
  /** The node, resource or target that it is about. */
  readonly subject: string;
  readonly detail: string;
}

export interface FleetJournal {
  record(event: string, subject: string, detail?: string): void;
  /** The newest last. */
  events(limit: number): readonly FleetEvent[];
}

export function openFleetJournal(store: Store, clock: Clock): FleetJournal {
  store.migrate("fleet_event", MIGRATIONS);
  const add = store.prepare("INSERT INTO fleet_event (time, event, subject, detail) VALUES (?, ?, ?, ?)");
  const pruneBy = (share: string) =>
    store.prepare(`DELETE FROM fleet_event WHERE ${share} AND id <= (
      SELECT id FROM fleet_event WHERE ${share} ORDER BY id DESC LIMIT 1 OFFSET ?2)`);
  const prune = pruneBy("event <> ?1");
  const pruneRefused = pruneBy("event = ?1");
  const last = store.prepare<FleetEvent>(
    "SELECT time, event, subject, detail FROM fleet_event ORDER BY id DESC LIMIT ?",
  );
  let recorded = 0;
  return {
    record(event, subject, detail = "") {
      add.run(clock.now(), event, subject.slice(0, CHARS_MAX), detail.slice(0, CHARS_MAX));
      if (recorded++ % PRUNE_EVERY !== 0) return;
      prune.run(JOIN_REFUSED, EVENTS_MAX);
      pruneRefused.run(JOIN_REFUSED, JOINS_REFUSED_MAX);
    },
    events: (limit) => last.all(limit).reverse(),
  };
}
