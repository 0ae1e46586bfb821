// The open streams: told at once when rules, trust or their SVID change, attested again while they live, ended when their identity is taken away.

import type { Clock } from "../../clock.ts";
import { describeError } from "../../error.ts";
import { Deadlines } from "../deadline.ts";
import type { Log } from "../log.ts";
import { retryTime } from "../renewal.ts";
import type { Caller } from "./caller.ts";
import type { Feed } from "./feed.ts";
import type { Identified } from "./identity.ts";
import type { Ledger } from "./ledger.ts";
import { CallRefusal } from "./refusal.ts";
import type { Outbound } from "./server.ts";

/** How long a process that becomes another program under its own streams is still told what it was. */
export const ATTEST_AGAIN_MS = 10_000;

/** A stream whose client does not read stays due for renewal: it is asked again, but not without pause. */
const JUDGE_APART_MS = 250;
/** Callers attested at once: as many as one commit of the CA takes. */
const TOGETHER = 64;

export interface LiveParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly ledger: Pick<Ledger, "withdraw">;
  identify(caller: Caller): Promise<Identified>;
}

interface LiveStream {
  readonly call: Outbound;
  readonly feed: Feed;
  attempts: number;
  /** Settled when all that was asked of it before is done: two answers at once would be two SVIDs. Never rejects. */
  turn: Promise<void>;
}

/** An open stream, for whoever has something new to ask of its feed. */
export interface LiveHandle {
  /** Attests the caller again and sends what is new. */
  judge(): Promise<void>;
}

export class LiveStreams {
  readonly #parts: LiveParts;
  readonly #streams = new Set<LiveStream>();
  readonly #renewals: Deadlines<LiveStream>;
  #refreshing: Promise<void> | undefined;
  #again = false;

  constructor(parts: LiveParts) {
    this.#parts = parts;
    this.#renewals = new Deadlines(parts.clock);
  }

  get size(): number {
    return this.#streams.size;
  }

  /** Sends the first message and keeps the stream until it ends. Rejects with CallRefusal before anything was sent. */
  async open(call: Outbound, feed: Feed): Promise<LiveHandle> {
    const stream: LiveStream = { call, feed, attempts: 0, turn: Promise.resolve() };
    const handle = { judge: () => this.#judge(call.caller, [stream]) };
    const identified = await this.#parts.identify(call.caller);
    if (call.signal.aborted) return handle;
    // Kept from here on: rules that change while it is signed for are not to be missed.
    this.#streams.add(stream);
    call.signal.addEventListener("abort", () => this.#drop(stream));
    const first = this.#send(stream, identified);
    stream.turn = first.catch(() => undefined);
    try {
      await first;
    } catch (thrown) {
      this.#drop(stream);
      throw thrown;
    }
    return handle;
  }

  /** Rules or trust have changed: every stream is judged anew. Calls that come while one runs share the next. */
  refresh(): Promise<void> {
    this.#again = true;
    this.#refreshing ??= this.#refreshAll().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async run(signal: AbortSignal): Promise<void> {
    const renewing = this.#renewals.run((stream) => void this.#judge(stream.call.caller, [stream]), signal);
    while (!signal.aborted) {
      await this.#parts.clock.sleep(ATTEST_AGAIN_MS, signal).catch(() => undefined);
      if (!signal.aborted && this.#streams.size > 0) await this.refresh();
    }
    await renewing;
  }

  async #refreshAll(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      const byCaller = Map.groupBy(this.#streams, ({ call }) => call.caller);
      // Not one after the other: what is signed for them together is one commit.
      const callers = [...byCaller];
      for (let at = 0; at < callers.length; at += TOGETHER)
        await Promise.all(callers.slice(at, at + TOGETHER).map(([caller, streams]) => this.#judge(caller, streams)));
    }
  }

  /** Never rejects. */
  async #judge(caller: Caller, streams: readonly LiveStream[]): Promise<void> {
    let answer: Identified | CallRefusal;
    try {
      answer = await this.#parts.identify(caller);
    } catch (thrown) {
      answer = thrown instanceof CallRefusal ? thrown : this.#bug(thrown);
    }
    for (const stream of streams) {
      if (!this.#streams.has(stream)) continue;
      if (answer instanceof CallRefusal) this.#end(stream, answer);
      else stream.turn = stream.turn.then(() => this.#update(stream, answer));
    }
    await Promise.all(streams.map(({ turn }) => turn));
  }

  async #update(stream: LiveStream, identified: Identified): Promise<void> {
    if (!this.#streams.has(stream)) return;
    try {
      await this.#send(stream, identified);
    } catch (thrown) {
      if (thrown instanceof CallRefusal) this.#end(stream, thrown);
      else this.#retry(stream, thrown);
    }
  }

  async #send(stream: LiveStream, identified: Identified): Promise<void> {
    const { call, feed } = stream;
    const message = await feed.next(call.caller, identified);
    stream.attempts = 0;
    if (call.signal.aborted) return;
    if (feed.renewAt !== undefined)
      this.#renewals.set(stream, Math.max(feed.renewAt, this.#parts.clock.now() + JUDGE_APART_MS));
    if (message !== undefined) call.send(message);
  }

  // The CA could not sign: what the stream has is good until it ends.
  #retry(stream: LiveStream, thrown: unknown): void {
    const { clock, log } = this.#parts;
    const { call, feed } = stream;
    const now = clock.now();
    log.error("an SVID of the Workload API could not be renewed", {
      pid: call.caller.pid,
      error: describeError(thrown),
    });
    const { endsAt } = feed;
    if (endsAt === undefined || endsAt <= now) {
      this.#end(stream, new CallRefusal("unavailable", "no SVID can be issued now"));
      return;
    }
    this.#renewals.set(stream, retryTime(now, { issuedAt: now, notAfter: endsAt }, stream.attempts));
    stream.attempts += 1;
  }

  #end(stream: LiveStream, refusal: CallRefusal): void {
    this.#drop(stream);
    if (refusal.status === "permissionDenied")
      this.#parts.ledger.withdraw(stream.call.caller, "the identity was withdrawn");
    stream.call.end(refusal);
  }

  #drop(stream: LiveStream): void {
    this.#streams.delete(stream);
    this.#renewals.delete(stream);
  }

  #bug(thrown: unknown): CallRefusal {
    this.#parts.log.error("the Workload API failed", { error: describeError(thrown) });
    return new CallRefusal("internal", "the daemon failed; its log says why");
  }
}
