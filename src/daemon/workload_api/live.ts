// The open streams: told at once when rules, trust or their SVID change, attested again while they live, ended when their identity is taken away.

import type { Clock } from "../../clock.ts";
import { describeError } from "../../error.ts";
import type { Store } from "../../store.ts";
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
  readonly store: Pick<Store, "look">;
  /** Who the caller is now; undefined when that has to be waited for. Throws CallRefusal. */
  tryIdentify(caller: Caller): Identified | undefined;
  identify(caller: Caller): Promise<Identified>;
}

interface LiveStream {
  readonly call: Outbound;
  readonly feed: Feed;
  attempts: number;
  /** Settled when all that was asked of it before is done: two answers at once would be two SVIDs. Never rejects; undefined: nothing is under way. */
  turn: Promise<void> | undefined;
}

type Answer = Identified | CallRefusal;
type Grouped = readonly [Caller, readonly LiveStream[]];

/** An open stream, for whoever has something new to ask of its feed. */
export interface LiveHandle {
  /** Attests the caller again and sends what is new. */
  judge(): Promise<void>;
}

export class LiveStreams {
  readonly #parts: LiveParts;
  readonly #streams = new Set<LiveStream>();
  readonly #renewals: Deadlines<LiveStream>;
  /** To be judged in this turn: all whose time came together. */
  readonly #due: LiveStream[] = [];
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
    const stream: LiveStream = { call, feed, attempts: 0, turn: undefined };
    const handle = { judge: () => this.#judge(call.caller, [stream]) };
    const identified = await this.#parts.identify(call.caller);
    if (call.signal.aborted) return handle;
    // Kept from here on: rules that change while it is signed for are not to be missed.
    this.#streams.add(stream);
    call.signal.addEventListener("abort", () => this.#drop(stream));
    const first = this.#send(stream, identified);
    this.#follow(
      stream,
      first.catch(() => undefined),
    );
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
    const renewing = this.#renewals.run((stream) => this.#renew(stream), signal);
    while (!signal.aborted) {
      await this.#parts.clock.sleep(ATTEST_AGAIN_MS, signal).catch(() => undefined);
      if (!signal.aborted && this.#streams.size > 0) await this.refresh();
    }
    await renewing;
  }

  async #refreshAll(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      await this.#judgeAll(this.#streams);
    }
  }

  #renew(stream: LiveStream): void {
    this.#due.push(stream);
    if (this.#due.length === 1) queueMicrotask(() => void this.#judgeAll(this.#due.splice(0)));
  }

  /** Never rejects. */
  async #judgeAll(streams: Iterable<LiveStream>): Promise<void> {
    const callers = [...Map.groupBy(streams, ({ call }) => call.caller)];
    // Not one after the other: what is signed for them together is one commit.
    for (let at = 0; at < callers.length; at += TOGETHER) await this.#judgeTogether(callers.slice(at, at + TOGETHER));
  }

  async #judgeTogether(callers: readonly Grouped[]): Promise<void> {
    try {
      const looked = this.#parts.store.look(() => callers.map((grouped) => this.#look(grouped)));
      // What is written, and who is told, comes after the look.
      const turns = looked.flatMap(({ caller, answer, streams }) =>
        answer === undefined ? [this.#judge(caller, streams)] : this.#tell(answer, streams),
      );
      await Promise.all(turns);
    } catch (thrown) {
      this.#parts.log.error("streams could not be judged together", { error: describeError(thrown) });
      await Promise.all(callers.map(([caller, streams]) => this.#judge(caller, streams)));
    }
  }

  /** Who the caller is now, and which of its streams may lack something. */
  #look([caller, streams]: Grouped) {
    const answer = this.#tryAnswer(caller);
    if (answer === undefined || answer instanceof CallRefusal) return { caller, answer, streams };
    return { caller, answer, streams: streams.filter((stream) => !this.#isSettled(stream, answer)) };
  }

  /** Never rejects. */
  async #judge(caller: Caller, streams: readonly LiveStream[]): Promise<void> {
    let answer: Answer;
    try {
      answer = await this.#parts.identify(caller);
    } catch (thrown) {
      answer = this.#answerOf(thrown);
    }
    await Promise.all(this.#tell(answer, streams));
  }

  /** Undefined when it has to be waited for. */
  #tryAnswer(caller: Caller): Answer | undefined {
    try {
      return this.#parts.tryIdentify(caller);
    } catch (thrown) {
      return this.#answerOf(thrown);
    }
  }

  /** Has the stream all that there is for it? */
  #isSettled(stream: LiveStream, identified: Identified): boolean {
    const { feed, turn } = stream;
    if (!this.#streams.has(stream)) return true;
    try {
      if (turn !== undefined || feed.isCurrent?.(identified) !== true) return false;
    } catch {
      // Whoever makes the next message says so again.
      return false;
    }
    this.#expect(stream);
    return true;
  }

  /** At its time, if nothing changes before. */
  #expect(stream: LiveStream): void {
    const { renewAt } = stream.feed;
    if (renewAt === undefined) return;
    this.#renewals.set(stream, Math.max(renewAt, this.#parts.clock.now() + JUDGE_APART_MS));
  }

  /** Ends each stream or sends it what is new: when that is done, if it is not yet. */
  #tell(answer: Answer, streams: readonly LiveStream[]): readonly Promise<void>[] {
    const turns: Promise<void>[] = [];
    for (const stream of streams) {
      if (!this.#streams.has(stream)) continue;
      if (answer instanceof CallRefusal) {
        this.#end(stream, answer);
        continue;
      }
      const update = () => this.#update(stream, answer);
      turns.push(this.#follow(stream, stream.turn === undefined ? update() : stream.turn.then(update)));
    }
    return turns;
  }

  /** `turn` never rejects. */
  #follow(stream: LiveStream, turn: Promise<void>): Promise<void> {
    stream.turn = turn;
    return turn.then(() => {
      if (stream.turn === turn) stream.turn = undefined;
    });
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
    this.#expect(stream);
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

  #answerOf(thrown: unknown): CallRefusal {
    if (thrown instanceof CallRefusal) return thrown;
    this.#parts.log.error("the Workload API failed", { error: describeError(thrown) });
    return new CallRefusal("internal", "the daemon failed; its log says why");
  }
}
