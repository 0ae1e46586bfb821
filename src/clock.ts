// The one source of time and waiting. Everything that asks for the time or sleeps is handed a Clock, so that tests own it.
import { setTimeout as wait } from "node:timers/promises";

export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Resolves after `ms` milliseconds (at once for 0 or less); rejects with the signal's reason once it is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** Timers hold a signed 32-bit count of milliseconds; a longer one fires at once. */
const TIMER_MAX_MS = 0x7fff_ffff;

/** The machine's own time. */
export const systemClock: Clock = {
  now: () => Date.now(),
  async sleep(ms, signal) {
    for (let left = ms; left > 0; left -= TIMER_MAX_MS) {
      try {
        await wait(Math.min(left, TIMER_MAX_MS), undefined, signal === undefined ? {} : { signal });
      } catch (cause) {
        throw signal?.aborted ? signal.reason : cause;
      }
    }
    signal?.throwIfAborted();
  },
};
