// What must outlive the daemon: counters that only grow, and which SVID each process instance holds. Never a key.

import type { ResourceText } from "../resource.ts";
import type { Store } from "../store.ts";

const MIGRATIONS = [
  `CREATE TABLE daemon_counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL, note TEXT NOT NULL DEFAULT '') STRICT;
   CREATE TABLE daemon_svid (
     serial TEXT PRIMARY KEY, boot TEXT NOT NULL, instance TEXT NOT NULL, spiffe_id TEXT NOT NULL,
     issued_at INTEGER NOT NULL, not_before INTEGER NOT NULL, not_after INTEGER NOT NULL
   ) STRICT;
   CREATE INDEX daemon_svid_holder ON daemon_svid (boot, instance);
   CREATE TABLE daemon_rules (file TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;`,
];

export type CounterName = "rules" | "trust";

/** Times in milliseconds since the epoch. */
export interface HeldSvid {
  readonly serial: string;
  readonly spiffeId: string;
  readonly issuedAt: number;
  readonly notBefore: number;
  readonly notAfter: number;
}

/** Who holds an SVID: an instance of one load of the module. */
export interface Holder {
  readonly boot: bigint;
  readonly instance: bigint;
}

export interface DaemonState {
  /** The next number of a counter: greater than every earlier one and than `floor`. Committed when it returns. */
  next(name: CounterName, floor: bigint, note?: string): bigint;
  current(name: CounterName): { readonly value: bigint; readonly note: string };
  hold(holder: Holder, svid: HeldSvid): void;
  /** The newest last. */
  heldBy(holder: Holder): readonly HeldSvid[];
  /** Forgets and returns what this holder held. */
  release(holder: Holder): readonly HeldSvid[];
  /** Forgets and returns what was held by instances that `isLive` does not know. */
  releaseDead(isLive: (holder: Holder) => boolean): readonly HeldSvid[];
  /** Drops SVIDs that have ended. */
  prune(now: number): void;
  /** The rule texts of the last good generation: what a daemon starts with when those on disk are broken by then. */
  saveRules(texts: readonly ResourceText[]): void;
  savedRules(): readonly ResourceText[];
}

interface Row {
  serial: string;
  boot: string;
  instance: string;
  spiffe_id: string;
  issued_at: number;
  not_before: number;
  not_after: number;
}

export function openDaemonState(store: Store): DaemonState {
  store.migrate("daemon", MIGRATIONS);
  const read = store.prepare<{ value: number; note: string }>("SELECT value, note FROM daemon_counter WHERE name = ?");
  const write = store.prepare(
    "INSERT INTO daemon_counter VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET value = ?2, note = ?3",
  );
  const insert = store.prepare("INSERT INTO daemon_svid VALUES (?, ?, ?, ?, ?, ?, ?)");
  const ofHolder = store.prepare<Row>(
    "SELECT * FROM daemon_svid WHERE boot = ? AND instance = ? ORDER BY issued_at, rowid",
  );
  const all = store.prepare<Row>("SELECT * FROM daemon_svid");
  const remove = store.prepare("DELETE FROM daemon_svid WHERE serial = ?");
  const prune = store.prepare("DELETE FROM daemon_svid WHERE not_after < ?");
  const removeRows = (rows: readonly Row[]): readonly HeldSvid[] =>
    store.transaction(() => {
      for (const { serial } of rows) remove.run(serial);
      return rows.map(heldSvid);
    });
  return {
    next: (name, floor, note = "") =>
      store.transaction(() => {
        const last = BigInt(read.get(name)?.value ?? 0);
        const value = (last > floor ? last : floor) + 1n;
        write.run(name, value, note);
        return value;
      }),
    current(name) {
      const row = read.get(name);
      return { value: BigInt(row?.value ?? 0), note: row?.note ?? "" };
    },
    hold({ boot, instance }, { serial, spiffeId, issuedAt, notBefore, notAfter }) {
      insert.run(serial, boot.toString(), instance.toString(), spiffeId, issuedAt, notBefore, notAfter);
    },
    heldBy: ({ boot, instance }) => ofHolder.all(boot.toString(), instance.toString()).map(heldSvid),
    release: ({ boot, instance }) => removeRows(ofHolder.all(boot.toString(), instance.toString())),
    releaseDead: (isLive) =>
      removeRows(all.all().filter((row) => !isLive({ boot: BigInt(row.boot), instance: BigInt(row.instance) }))),
    prune: (now) => void prune.run(now),
    saveRules: (texts) =>
      store.transaction(() => {
        store.prepare("DELETE FROM daemon_rules").run();
        const add = store.prepare("INSERT INTO daemon_rules VALUES (?, ?)");
        for (const { file, text } of texts) add.run(file, text);
      }),
    savedRules: () =>
      store.prepare<{ file: string; text: string }>("SELECT file, text FROM daemon_rules ORDER BY file").all(),
  };
}

function heldSvid(row: Row): HeldSvid {
  const { serial, issued_at: issuedAt, not_before: notBefore, not_after: notAfter } = row;
  return { serial, spiffeId: row.spiffe_id, issuedAt, notBefore, notAfter };
}
