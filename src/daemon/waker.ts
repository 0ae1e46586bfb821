// A sleep that another part can end: for a loop that looks now and then, and soon when there is reason to.

import type { Clock } from "../clock.ts";

export class Waker {
  readonly #clock: Clock;
  #alarm = new AbortController();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends the sleep under way; without one, the next does not begin. */
  wake(): void {
    this.#alarm.abort();
  }

  /** Until `ms` milliseconds are over, or the signal, or wake() and then `settleMs`: reasons that come meanwhile are the same one. Never rejects. */
  async sleep(ms: number, signal: AbortSignal, settleMs = 0): Promise<void> {
    await this.#clock.sleep(ms, AbortSignal.any([signal, this.#alarm.signal])).catch(() => undefined);
    if (!this.#alarm.signal.aborted) return;
    await this.#clock.sleep(settleMs, signal).catch(() => undefined);
    this.#alarm = new AbortController();
  }
}
