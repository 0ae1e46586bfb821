// What happened in the fleet as this node saw it, for a person to read back: joins and refusals, revocations, conflicts. Kept in SQLite, bounded.

import type { Clock } from "../../clock.ts";
import type { Store } from "../../store.ts";

const MIGRATIONS = [
  `CREATE TABLE fleet_event (
     id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, event TEXT NOT NULL, subject TEXT NOT NULL, detail TEXT NOT NULL
   ) STRICT;`,
];

/** As many as a person would read back; the oldest leave. */
const EVENTS_MAX = 10_000;
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
  const prune = store.prepare("DELETE FROM fleet_event WHERE id <= (SELECT max(id) FROM fleet_event) - ?");
  const last = store.prepare<FleetEvent>(
    "SELECT time, event, subject, detail FROM fleet_event ORDER BY id DESC LIMIT ?",
  );
  let recorded = 0;
  return {
    record(event, subject, detail = "") {
      add.run(clock.now(), event, subject.slice(0, CHARS_MAX), detail.slice(0, CHARS_MAX));
      if (++recorded % PRUNE_EVERY === 0) prune.run(EVENTS_MAX);
    },
    events: (limit) => last.all(limit).reverse(),
  };
}
