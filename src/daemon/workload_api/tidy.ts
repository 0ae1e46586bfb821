// Gives memory back after many connections have come: what was needed to open them is garbage that the runtime would keep while nothing happens.

import type { Clock } from "../../clock.ts";

/** A collection stops the daemon for some 20 ms, and is worth that after as many as these; each leaves some 20 KB. */
const CONNECTIONS_MIN = 128;
/** Nobody has connected for so long: nobody waits. */
export const QUIET_MS = 5000;

export interface TidyParts {
  readonly clock: Clock;
  readonly collect?: () => void;
}

export class Tidy {
  readonly #clock: Clock;
  readonly #collect: () => void;
  #connections = 0;

  constructor({ clock, collect = () => Bun.gc(true) }: TidyParts) {
    this.#clock = clock;
    this.#collect = collect;
  }

  connected(): void {
    this.#connections += 1;
  }

  async run(signal: AbortSignal): Promise<void> {
    let before = 0;
    while (!signal.aborted) {
      await this.#clock.sleep(QUIET_MS, signal).catch(() => undefined);
      const isQuiet = this.#connections === before;
      before = this.#connections;
      if (signal.aborted || !isQuiet || this.#connections < CONNECTIONS_MIN) continue;
      this.#connections = 0;
      before = 0;
      this.#collect();
    }
  }
}
