// What a person is shown of refused joins: each reason at once, and then once a minute how many more there were, because anybody who reaches the broker can be refused without end.

import type { Clock } from "../../clock.ts";
import { describeError } from "../../error.ts";
import type { Log } from "../log.ts";
import { type FleetJournal, JOIN_REFUSED } from "./event.ts";

export interface RefusedJoin {
  readonly code: string;
  readonly nodeName: string;
  readonly detail: string;
  /** The token with which the request was made; empty for what nobody can tell. */
  readonly token: string;
}

interface Counted {
  readonly since: number;
  readonly code: string;
  readonly nodeName: string;
  /** Since then, without the one that was shown. */
  more: number;
}

const WINDOW_MS = 60_000;
/** Reasons of single tokens that are counted at once; further tokens are counted together. */
const COUNTED_MAX = 64;

export class RefusedJoins {
  readonly #journal: Pick<FleetJournal, "record">;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #counted = new Map<string, Counted>();

  constructor(parts: { readonly journal: Pick<FleetJournal, "record">; readonly log: Log; readonly clock: Clock }) {
    this.#journal = parts.journal;
    this.#log = parts.log;
    this.#clock = parts.clock;
  }

  /** Never throws. */
  note({ code, nodeName, detail, token }: RefusedJoin): void {
    const now = this.#clock.now();
    this.#tellEnded(now);
    const own = `${code} ${token}`;
    const key = this.#counted.has(own) || this.#counted.size < COUNTED_MAX ? own : `${code} `;
    const counted = this.#counted.get(key);
    if (counted === undefined) {
      this.#counted.set(key, { since: now, code, nodeName, more: 0 });
      this.#tell({ code, nodeName, detail });
    } else counted.more += 1;
  }

  /** Until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#clock.sleep(WINDOW_MS, signal).catch(() => undefined);
      this.#tellEnded(signal.aborted ? Number.POSITIVE_INFINITY : this.#clock.now());
    }
  }

  /** A clock that was set back ends what it counted too. */
  #tellEnded(now: number): void {
    for (const [key, { since, code, nodeName, more }] of this.#counted) {
      if (Math.abs(now - since) < WINDOW_MS) continue;
      this.#counted.delete(key);
      if (more > 0) this.#tell({ code, nodeName, detail: `${more} more within a minute` });
    }
  }

  #tell({ code, nodeName, detail }: Omit<RefusedJoin, "token">): void {
    this.#log.warn("a request to join was refused", { node: nodeName, code, reason: detail });
    try {
      this.#journal.record(JOIN_REFUSED, nodeName, `${code}: ${detail}`);
    } catch (thrown) {
      this.#log.error("the fleet's journal cannot be written", { error: describeError(thrown) });
    }
  }
}
