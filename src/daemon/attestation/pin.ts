// Holds on to one process by pidfd while it is looked at, so that a reused PID is seen for what it is.

import { closeSync } from "node:fs";
import { RiprapError } from "../../error.ts";
import { pidfdIsAlive, pidfdOpen } from "../libc.ts";
import { readStat } from "./proc.ts";

/** /proc shows start times in clock ticks of 10 ms; the kernel's facts have nanoseconds. */
const TICK_NS = 10_000_000n;

export interface ProcessPin {
  /** Is it still the process that was pinned? Whatever was read of /proc before a `true` was of this process. */
  isAlive(): boolean;
  close(): void;
}

/** Pins `pid` if it is the process that started at `startTimeNs`. RiprapError `not_found` when it ended or is another one now. */
export function pinProcess(pid: number, startTimeNs: bigint): ProcessPin {
  const fd = openPidfd(pid);
  try {
    // Read after the pidfd is held: from here on the number cannot pass to another process unseen.
    const started = readStat(pid).startTimeNs;
    if (!isSameStart(started, startTimeNs) || !pidfdIsAlive(fd)) {
      throw new RiprapError("not_found", `Cannot pin process ${pid}: it ended, and another has its number now`);
    }
  } catch (thrown) {
    closeSync(fd);
    throw thrown;
  }
  return { isAlive: () => pidfdIsAlive(fd), close: () => closeSync(fd) };
}

/** Are these the same start time, as far as a clock tick tells? */
export function isSameStart(a: bigint, b: bigint): boolean {
  const apart = a > b ? a - b : b - a;
  return apart <= TICK_NS;
}

function openPidfd(pid: number): number {
  try {
    return pidfdOpen(pid);
  } catch (cause) {
    throw new RiprapError("not_found", `Cannot pin process ${pid}: there is no such process`, { cause });
  }
}
