// One process at a time changes the secrets of a node: a file with the number of the process, which is worth nothing once that is gone.
import { closeSync, existsSync, openSync, readFileSync, unlinkSync, writeSync } from "node:fs";
import { RiprapError } from "../../error.ts";

const TRIES_MAX = 250;
const PAUSE_MS = 20;

/** Throws RiprapError `custody_busy` when another process holds it for five seconds. Synchronous: nothing of this process comes in between. */
export function withLock<T>(path: string, work: () => T): T {
  take(path);
  try {
    return work();
  } finally {
    if (existsSync(path)) unlinkSync(path);
  }
}

function take(path: string): void {
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    try {
      const fd = openSync(path, "wx", 0o600);
      writeSync(fd, `${process.pid}\n`);
      closeSync(fd);
      return;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
    }
    if (holderIsGone(path)) removeStale(path);
    else Bun.sleepSync(PAUSE_MS);
  }
  throw new RiprapError(
    "custody_busy",
    `Cannot change the keys of this node: another riprap does so (${path}); try again, or remove the file when none runs`,
  );
}

/** The number is written at once after the file is made: an empty one is a writer under way, for a moment. */
function holderIsGone(path: string): boolean {
  try {
    const pid = Number(readFileSync(path, "utf8").trim());
    return Number.isInteger(pid) && pid > 0 && !existsSync(`/proc/${pid}`);
  } catch {
    return false;
  }
}

function removeStale(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Another saw it first.
  }
}
