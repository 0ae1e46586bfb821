// Notices that another program (the riprap command) has written to the state: a revocation may be among it. Never reads what.

import type { Clock } from "../clock.ts";
import type { Store } from "../store.ts";

/** How late a revocation by the command is noticed at most. */
const LOOK_EVERY_MS = 1000;

export interface RevocationWatch {
  readonly store: Pick<Store, "prepare">;
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
  while (!signal.aborted) {
    await clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
    if (signal.aborted) return;
    const now = version.get()?.data_version;
    if (now === last) continue;
    last = now;
    onChange();
  }
}
