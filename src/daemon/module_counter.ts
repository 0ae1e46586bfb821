// The module's own counters, asked for now and then, so that whoever looks need not wait.

import { type BodyOf, QUERY_WHAT } from "../abi.ts";
import type { Clock } from "../clock.ts";
import type { ModuleLink } from "./link.ts";

const ASK_EVERY_MS = 2000; // a frame of 40 bytes; as old as `status` may be

export class ModuleCounters {
  readonly #clock: Clock;
  #last: BodyOf<"queryDone"> | undefined;
  #query = 0n;
  #shown: { readonly query: bigint; resolve(): void } | undefined;

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
    if (this.#shown !== undefined && this.#shown.query <= done.query) this.#shown.resolve();
  }

  /** The module is gone. */
  forget(): void {
    this.#last = undefined;
    this.#shown?.resolve();
  }

  ask(link: ModuleLink): void {
    this.#query += 1n;
    link.session.send("query", { query: this.#query, what: QUERY_WHAT.stats });
  }

  /** Asks for a FLOW frame of each live flow as well; resolves when all were told, or the module is gone. */
  showFlows(link: ModuleLink): Promise<void> {
    this.#query += 1n;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#shown = { query: this.#query, resolve };
    link.session.send("query", { query: this.#query, what: QUERY_WHAT.stats | QUERY_WHAT.flows });
    return promise;
  }

  /** Asks every two seconds while there is a module, until the signal. */
  async run(link: () => ModuleLink | undefined, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const open = link();
      if (open !== undefined) this.ask(open);
      await this.#clock.sleep(ASK_EVERY_MS, signal).catch(() => undefined);
    }
  }
}
