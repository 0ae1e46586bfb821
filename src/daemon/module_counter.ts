// The module's own counters, asked for now and then, so that whoever looks need not wait.

import { type BodyOf, QUERY_WHAT } from "../abi.ts";
import type { Clock } from "../clock.ts";
import type { ModuleLink } from "./link.ts";

const ASK_EVERY_MS = 2000; // a frame of 40 bytes; as old as `status` may be

export class ModuleCounters {
  readonly #clock: Clock;
  #last: BodyOf<"queryDone"> | undefined;
  #query = 0n;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** As of two seconds ago at most; undefined before the first answer. */
  get last(): BodyOf<"queryDone"> | undefined {
    return this.#last;
  }

  /** QUERY_DONE */
  take(done: BodyOf<"queryDone">): void {
    this.#last = done;
  }

  forget(): void {
    this.#last = undefined;
  }

  /** Asks for the counters, and for a FLOW frame of each live flow. */
  ask(link: ModuleLink, options: { readonly flows: boolean }): void {
    this.#query += 1n;
    const what = QUERY_WHAT.stats | (options.flows ? QUERY_WHAT.flows : 0);
    link.session.send("query", { query: this.#query, what });
  }

  /** Asks every two seconds while there is a module, until the signal. */
  async run(link: () => ModuleLink | undefined, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const open = link();
      if (open !== undefined) this.ask(open, { flows: false });
      await this.#clock.sleep(ASK_EVERY_MS, signal).catch(() => undefined);
    }
  }
}
