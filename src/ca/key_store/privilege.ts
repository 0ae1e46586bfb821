// Work as the user that started the process, inside work as another: a command of root's writes files as the daemon's user, and only root may reach the seal.

import { closeSync, constants, existsSync, openSync, readFileSync } from "node:fs";

/** Synchronous, so that nothing else of the process runs meanwhile. A process that was never root is left as it is. */
export function asStarter<T>(work: () => T): T {
  const user = process.geteuid?.() ?? 0;
  const group = process.getegid?.() ?? 0;
  if (user === 0 || process.getuid?.() !== 0) return work();
  process.seteuid?.(0);
  process.setegid?.(0);
  try {
    return work();
  } finally {
    process.setegid?.(group);
    process.seteuid?.(user);
  }
}

/** Of riprap.service, whose StateDirectory= hands it what root's `riprap init` has made. */
const DAEMON_USER = "riprap";

/** Whether the daemon's user, with all its groups, may read and write this file: it is that user who will, later. */
export function mayDaemonOpen(path: string): boolean {
  const [user, group] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
  if (process.getuid?.() !== 0) return canOpen(path);
  if (user !== 0) return asStarter(() => canUserOpen(path, user, group));
  const daemon = daemonUser();
  return daemon === undefined ? canOpen(path) : canUserOpen(path, daemon.user, daemon.group);
}

/** As root, and for the time of the call that user with its groups. */
function canUserOpen(path: string, user: number, group: number): boolean {
  const groups = process.getgroups?.() ?? [];
  const own = process.getegid?.() ?? 0;
  // Bun has it, its types do not.
  const { initgroups } = process as { initgroups?: (user: number, group: number) => void };
  try {
    initgroups?.(user, group);
    process.setegid?.(group);
    process.seteuid?.(user);
    return canOpen(path);
  } catch {
    // A user without a name has no groups.
    return false;
  } finally {
    process.seteuid?.(0);
    process.setegid?.(own);
    process.setgroups?.(groups);
  }
}

function daemonUser(): { user: number; group: number } | undefined {
  if (!existsSync("/etc/passwd")) return undefined;
  const [, user, group] =
    new RegExp(`^${DAEMON_USER}:[^:]*:(\\d+):(\\d+):`, "m").exec(readFileSync("/etc/passwd", "utf8")) ?? [];
  return user === undefined ? undefined : { user: Number(user), group: Number(group) };
}

function canOpen(path: string): boolean {
  try {
    closeSync(openSync(path, constants.O_RDWR));
    return true;
  } catch {
    return false;
  }
}
