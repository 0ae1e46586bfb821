// Opens this node's CA for one use by a command, beside a daemon that may run.

import { statSync } from "node:fs";
import type { NodeAuthority } from "../ca.ts";
import { systemClock } from "../clock.ts";
import { RiprapError } from "../error.ts";
import type { Store } from "../store.ts";
import { controlClient } from "./client.ts";
import type { Option } from "./command.ts";
import type { Invocation } from "./invocation.ts";
import { configOf } from "./setting.ts";

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

/** Throws RiprapError `daemon_running`; `what` says what a running daemon is in the way of, and why. */
export async function requireNoDaemon(invocation: Invocation, what: string): Promise<void> {
  const client = controlClient(configOf(invocation).controlSocket);
  try {
    await client.get("/v1/status");
  } catch (thrown) {
    if (thrown instanceof RiprapError && thrown.code === "unreachable") return;
    throw thrown;
  }
  throw new RiprapError("daemon_running", `Cannot ${what} (${client.path}); stop it first (\`systemctl stop riprap\`)`);
}

/** Not imported at the top: what asks the daemon starts without the CA's weight. */
export async function withAuthority<T>(
  stateDir: string,
  use: (authority: NodeAuthority, store: Store) => T | Promise<T>,
): Promise<T> {
  const [{ isSetUp, openAuthority, openNodeStore }, { openStore }] = await Promise.all([
    import("../ca.ts"),
    import("../store.ts"),
  ]);
  // The authority's refusal of a node that is none must not leave a database behind.
  const store = isSetUp(stateDir) ? openNodeStore(stateDir) : openStore(":memory:");
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
