// Notices that another program (the riprap command) has written to the state: a revocation may be among it. Never reads what.

import { watch } from "node:fs";
import { basename, dirname } from "node:path";
import type { Clock } from "../clock.ts";
import type { Store } from "../store.ts";
import { Waker } from "./waker.ts";

/** How late a revocation by the command is noticed at most, where the kernel does not tell of writes. */
const LOOK_EVERY_MS = 1000;
/** Our own commits are writes too: not each of them is worth a look of its own. */
const LOOK_APART_MS = 25;

export interface RevocationWatch {
  readonly store: Pick<Store, "prepare" | "path">;
  readonly clock: Clock;
  readonly onChange: () => void;
}

/** Calls `onChange` after every write of another connection, until the signal. */
export async function watchRevocations(
  { store, clock, onChange }: RevocationWatch,
  signal: AbortSignal,
): Promise<void> {
  // Counts the commits of others, never our own (sqlite.org/pragma.html#pragma_data_version).
  const version = store.prepare<{ data_version: number }>("PRAGMA data_version");
  let last = version.get()?.data_version;
  const waker = new Waker(clock);
  const stop = watchWrites(store.path, () => waker.wake());
  signal.addEventListener("abort", stop, { once: true });
  while (!signal.aborted) {
    await waker.sleep(LOOK_EVERY_MS, signal, LOOK_APART_MS);
    if (signal.aborted) return;
    const now = version.get()?.data_version;
    if (now === last) continue;
    last = now;
    onChange();
  }
}

/** Of the database's write-ahead log, which comes and goes beside it. Where it cannot be watched, nobody is told. */
function watchWrites(path: string, onWrite: () => void): () => void {
  if (path === ":memory:") return () => undefined;
  try {
    const log = `${basename(path)}-wal`;
    const watcher = watch(dirname(path), { persistent: false }, (_event, name) => {
      if (name === log) onWrite();
    });
    watcher.on("error", () => watcher.close());
    return () => watcher.close();
  } catch {
    return () => undefined;
  }
}
