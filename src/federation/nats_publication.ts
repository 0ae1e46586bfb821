// Where the broker does not let this node publish: noticed by its word, and forgotten when a later message is taken or nothing was refused there for long. Reads no message.

import type { Clock } from "../clock.ts";
import type { Refusal } from "./transport.ts";

/** One wrong line of a configuration is shown by any of its subjects. */
const REFUSED_MAX = 16;
/** A subject that is not spoken on any more, as a question to a node that has left, would be shown for good. */
const FORGET_MS = 10 * 60_000;
/** Where the broker itself answers or is asked: without a right to its store a fleet lives too. */
const BROKERS_OWN = /^(\$|_INBOX)/;

export class RefusedPublications {
  readonly #clock: Pick<Clock, "now">;
  /** How often, one time after the other, and when last. */
  readonly #refusals = new Map<string, { readonly count: number; readonly at: number }>();
  readonly #listeners = new Set<(refusal: Refusal) => void>();

  constructor(clock: Pick<Clock, "now">) {
    this.#clock = clock;
  }

  get subjects(): readonly string[] {
    this.#forgetOld();
    return [...this.#refusals.keys()];
  }

  onRefusal(listener: (refusal: Refusal) => void): void {
    this.#listeners.add(listener);
  }

  /** The broker has said so. */
  refused(subject: string): void {
    this.#forgetOld();
    const before = this.#refusals.get(subject)?.count ?? 0;
    if (BROKERS_OWN.test(subject) || (before === 0 && this.#refusals.size >= REFUSED_MAX)) return;
    this.#refusals.set(subject, { count: before + 1, at: this.#clock.now() });
    if (before === 0) this.#tell(subject, true);
  }

  /** Something was published just now. `flush` is over when the broker has answered all that came before. */
  async published(subject: string, flush: () => Promise<void>): Promise<void> {
    const before = this.#refusals.get(subject);
    if (before === undefined) return;
    await flush();
    // What the client tells of a refusal may come some turns after the answer to a flush: the next one is later than both.
    await flush();
    if (this.#refusals.get(subject) !== before) return;
    this.#refusals.delete(subject);
    this.#tell(subject, false);
  }

  /** Tells nobody: it is not known to be taken. */
  #forgetOld(): void {
    const now = this.#clock.now();
    for (const [subject, { at }] of this.#refusals) if (Math.abs(now - at) >= FORGET_MS) this.#refusals.delete(subject);
  }

  #tell(subject: string, isRefused: boolean): void {
    for (const listener of this.#listeners) listener({ verb: "publish", subject, isRefused });
  }
}
