// Opens this node's CA for one use by a command, beside a daemon that may run.

import { existsSync, statSync } from "node:fs";
import type { NodeAuthority } from "../ca.ts";
import { systemClock } from "../clock.ts";
import type { Store } from "../store.ts";
import type { Option } from "./command.ts";

export const STATE_OPTION: Option = {
  name: "state-dir",
  value: "FOLDER",
  sentence: "Work on this state directory instead of the configured one.",
};

/**
 * Does `work` as the owner of the state directory when root calls and another user owns it, as the daemon of the systemd unit
 * does: files that root left there would be of no use to it.
 */
export async function asOwner<T>(stateDir: string, work: () => T | Promise<T>): Promise<T> {
  const facts = statSync(stateDir, { throwIfNoEntry: false });
  if (process.geteuid?.() !== 0 || facts === undefined || facts.uid === 0) return work();
  const group = process.getegid?.() ?? 0;
  process.setegid?.(facts.gid);
  process.seteuid?.(facts.uid);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
    process.setegid?.(group);
  }
}

/** Not imported at the top: what asks the daemon starts without the CA's weight. */
export async function withAuthority<T>(
  stateDir: string,
  use: (authority: NodeAuthority, store: Store) => T | Promise<T>,
): Promise<T> {
  const [{ openAuthority }, { openStore, storePath }] = await Promise.all([import("../ca.ts"), import("../store.ts")]);
  const path = storePath(stateDir);
  // A node that was set up has a store; where there is none, the authority's refusal must not leave one behind.
  const store = openStore(existsSync(path) ? path : ":memory:");
  try {
    const authority = openAuthority({ stateDir, clock: systemClock, store });
    try {
      return await use(authority, store);
    } finally {
      authority.close();
    }
  } finally {
    store.close();
  }
}
