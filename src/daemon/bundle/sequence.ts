// The number of this trust domain's bundle as the broker's listeners see it: the moment of its last change, so that issuing nodes that take turns agree.

import type { Store } from "../../store.ts";

const MIGRATIONS = [
  "CREATE TABLE said_bundle (id INTEGER PRIMARY KEY CHECK (id = 1), sequence INTEGER NOT NULL, fingerprint TEXT NOT NULL) STRICT;",
];

export interface SequenceStore {
  /** The same for the same fingerprint, greater for another. */
  of(fingerprint: string, now: number): bigint;
}

export function openSequenceStore(store: Store): SequenceStore {
  store.migrate("said_bundle", MIGRATIONS);
  const read = store.prepare<{ sequence: number; fingerprint: string }>(
    "SELECT sequence, fingerprint FROM said_bundle",
  );
  const write = store.prepare(
    "INSERT INTO said_bundle VALUES (1, ?1, ?2) ON CONFLICT (id) DO UPDATE SET sequence = ?1, fingerprint = ?2",
  );
  let last = read.get();
  return {
    of(fingerprint, now) {
      if (last?.fingerprint !== fingerprint) {
        const sequence = Math.max((last?.sequence ?? 0) + 1, Math.floor(now));
        write.run(sequence, fingerprint);
        last = { sequence, fingerprint };
      }
      return BigInt(last.sequence);
    },
  };
}
