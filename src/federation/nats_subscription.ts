// What one node listens to over every connection to the broker: brought to each new one, and tried again where the broker refuses it. Reads no message.

import type { Clock } from "../clock.ts";
import type { Refusal, Subscription } from "./transport.ts";

/** What is needed of a connection, as the client of NATS has it. */
export interface Line<M> {
  subscribe(
    subject: string,
    options: { queue?: string; callback(error: Error | null, message: M): void },
  ): { unsubscribe(): void };
  /** Until the server has answered all that came before. */
  flush(): Promise<void>;
  isClosed(): boolean;
}

export interface Listening<M> {
  readonly subject: string;
  readonly queue?: string | undefined;
  handler(message: M): void;
}

interface Standing<M> extends Listening<M> {
  live: { unsubscribe(): void } | undefined;
  /** How often the server has refused it, one time after the other. */
  refusals: number;
}

const SUBSCRIPTIONS_MAX = 256;
/** A server whose configuration is loaded anew does not say what it takes now; of each try it writes a line into its log. */
const AGAIN_FIRST_MS = 1000;
const AGAIN_MOST_MS = 60_000;

export class Subscriptions<M> {
  readonly #standing = new Set<Standing<M>>();
  readonly #listeners = new Set<(refusal: Refusal) => void>();
  readonly #time: { readonly clock: Clock; readonly random: () => number };
  #line: Line<M> | undefined;
  /** Of this line: what waits ends with it. */
  #end = new AbortController();

  constructor(time: { readonly clock: Clock; readonly random: () => number }) {
    this.#time = time;
  }

  /** Subjects that the server refuses now. */
  get refused(): readonly string[] {
    return [...this.#standing].filter(({ refusals }) => refusals > 0).map(({ subject }) => subject);
  }

  onRefusal(listener: (refusal: Refusal) => void): void {
    this.#listeners.add(listener);
  }

  add(listening: Listening<M>): Subscription {
    if (this.#standing.size >= SUBSCRIPTIONS_MAX)
      throw new RangeError(`more than ${SUBSCRIPTIONS_MAX} subscriptions of one node`);
    const standing: Standing<M> = { ...listening, live: undefined, refusals: 0 };
    this.#standing.add(standing);
    if (this.#line !== undefined) this.#bring(standing, this.#line);
    return {
      close: () => {
        this.#standing.delete(standing);
        standing.live?.unsubscribe();
      },
    };
  }

  /** There is a connection, or there is none. */
  follow(line: Line<M> | undefined): void {
    this.#end.abort();
    this.#end = new AbortController();
    this.#line = line;
    for (const standing of this.#standing) {
      standing.live = undefined;
      if (line !== undefined) this.#bring(standing, line);
    }
  }

  #bring(standing: Standing<M>, line: Line<M>): void {
    const { subject, queue, handler } = standing;
    const live = line.subscribe(subject, {
      ...(queue === undefined ? {} : { queue }),
      // An error here is a right that we lack; the client has given the subscription up then.
      callback: (error, message) => {
        if (error === null) handler(message);
        else if (standing.live === live) void this.#bringLater(standing, line);
      },
    });
    standing.live = live;
    if (standing.refusals === 0) return;
    // The server answers in order: by then it has refused what it refuses.
    line.flush().then(
      () => {
        if (standing.live === live) this.#count(standing, 0);
      },
      () => undefined,
    );
  }

  async #bringLater(standing: Standing<M>, line: Line<M>): Promise<void> {
    const { clock, random } = this.#time;
    const wait = Math.min(AGAIN_MOST_MS, AGAIN_FIRST_MS * 2 ** standing.refusals);
    standing.live = undefined;
    this.#count(standing, standing.refusals + 1);
    const { signal } = this.#end;
    await clock.sleep(wait * (0.5 + random()), signal).catch(() => undefined);
    if (!signal.aborted && this.#standing.has(standing) && !line.isClosed()) this.#bring(standing, line);
  }

  #count(standing: Standing<M>, refusals: number): void {
    const [was, isRefused] = [standing.refusals > 0, refusals > 0];
    standing.refusals = refusals;
    if (was === isRefused || !this.#standing.has(standing)) return;
    for (const listener of this.#listeners) listener({ verb: "listen", subject: standing.subject, isRefused });
  }
}
