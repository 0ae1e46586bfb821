// One process at a time changes the secrets of a node: a link that names the process, and is worth nothing once that is gone.
import { existsSync, readlinkSync, symlinkSync, unlinkSync } from "node:fs";
import { RiprapError } from "../../error.ts";

const TRIES_MAX = 100;
const PAUSE_MS = 20;

/** Throws RiprapError `custody_busy` when another process holds it for two seconds. Synchronous: nothing of this process comes in between. */
export function withLock<T>(path: string, work: () => T): T {
  take(path);
  try {
    return work();
  } finally {
    remove(path);
  }
}

function take(path: string): void {
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    try {
      // Made whole at once, where a file could be left empty by a crash or a full disk.
      symlinkSync(String(process.pid), path);
      return;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
    }
    if (holderIsGone(path)) remove(path);
    else Bun.sleepSync(PAUSE_MS);
  }
  throw new RiprapError(
    "custody_busy",
    `Cannot change the keys of this node: another riprap does so (${path}); try again, or remove the file when none runs`,
  );
}

function holderIsGone(path: string): boolean {
  try {
    const pid = Number(readlinkSync(path));
    return Number.isInteger(pid) && pid > 0 && !existsSync(`/proc/${pid}`);
  } catch {
    // Gone meanwhile, or no link of ours: the next try, or the message, says.
    return false;
  }
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Another saw first that it is stale.
  }
}
