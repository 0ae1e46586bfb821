// Work as the user that started the process, inside work as another: a command of root's writes files as the daemon's user, and only root may reach the seal.

import { closeSync, constants, openSync } from "node:fs";

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

/** Whether the user whose files are being written, with all its groups, may read and write this file: it is that user who will, later. */
export function mayOwnerOpen(path: string): boolean {
  const user = process.geteuid?.() ?? 0;
  const group = process.getegid?.() ?? 0;
  if (user === 0 || process.getuid?.() !== 0) return canOpen(path);
  return asStarter(() => {
    const groups = process.getgroups?.() ?? [];
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
      process.setegid?.(0);
      process.setgroups?.(groups);
    }
  });
}

function canOpen(path: string): boolean {
  try {
    closeSync(openSync(path, constants.O_RDWR));
    return true;
  } catch {
    return false;
  }
}
