// A sleep that another part can end: for a loop that looks now and then, and soon when there is reason to.

import type { Clock } from "../clock.ts";

export class Waker {
  readonly #clock: Clock;
  #isWoken = false;
  #rouse = (): void => {};

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends the sleep under way; without one, the next does not begin. */
  wake(): void {
    this.#isWoken = true;
    this.#rouse();
  }

  /**
   * Until `ms` milliseconds are over, or the signal, or wake() and then `settleMs`: reasons that come meanwhile are the same one. True when it was
   * woken. Never rejects.
   */
  async sleep(ms: number, signal: AbortSignal, settleMs = 0): Promise<boolean> {
    if (!this.#isWoken) await this.#rest(ms, signal);
    if (!this.#isWoken) return false;
    await this.#clock.sleep(settleMs, signal).catch(() => undefined);
    this.#isWoken = false;
    return true;
  }

  /** Leaves nothing on the signal: a loop sleeps as often as it likes. */
  async #rest(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const end = new AbortController();
    const rouse = () => end.abort();
    this.#rouse = rouse;
    signal.addEventListener("abort", rouse, { once: true });
    await this.#clock.sleep(ms, end.signal).catch(() => undefined);
    signal.removeEventListener("abort", rouse);
  }
}
