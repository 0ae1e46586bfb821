// Finds out, one node at a time, what differs from the others and exchanges that alone. Trusts no one: each statement is judged as if it came by itself.

import type { Clock } from "../../clock.ts";
import { RiprapError } from "../../error.ts";
import { HEADS_MAX, statementId } from "../../federation/digest.ts";
import type { FleetState } from "../../federation/fleet_state.ts";
import {
  BATCH_BYTES_MAX,
  batchStatements,
  type FleetMessage,
  isMessageType,
  parseMessage,
  writeMessage,
} from "../../federation/message.ts";
import type { Statement } from "../../federation/statement.ts";
import type { Log } from "../log.ts";
import { Waker } from "../waker.ts";
import type { Reply, Said, Wire } from "./wire.ts";

export interface AntiEntropyParts {
  readonly state: FleetState;
  readonly wire: Pick<Wire, "ask">;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  /** Nodes that may be asked, this one not among them; those heard of lately first or alone. */
  peers(): readonly string[];
  /** Judges and keeps; answers how many were new. */
  take(statements: readonly Statement[], from: string): number;
}

/** Between two rounds when nothing calls for one; half as much again or less by chance. */
export const ROUND_EVERY_MS = 10_000;
/** A gap, a new connection, a refused statement: several of them are one reason. */
const SOON_MS = 250;
/** A node whose daemon is stopped says nothing; then another is asked. */
const TRIES = 3;
const ASK_MS = 5000;
/** Each step brings some hundred KiB closer; a state of all that a node can hold takes fewer. */
const STEPS_MAX = 256;
/** Windows of overfull buckets that show nothing new, in one round: some 3 MB. Others are drawn in the next. */
const WINDOW_TRIES = 8;
/**
 * Of the rounds that nothing called for, how many compare presences too. Each comes again by itself, and of a large fleet one is always on its way:
 * to go on until both have the same would have no end.
 */
const WHOLE_SHARE = 1 / 6;

export interface RoundResult {
  readonly node: string;
  readonly taken: number;
  readonly given: number;
}

export class AntiEntropy {
  readonly counters = { rounds: 0, failed: 0, taken: 0, given: 0 };
  readonly #parts: AntiEntropyParts;
  readonly #waker: Waker;
  /** When this node and another last had the same; 0: never since start. */
  #agreedAt = 0;

  constructor(parts: AntiEntropyParts) {
    this.#parts = parts;
    this.#waker = new Waker(parts.clock);
  }

  get agreedAt(): number {
    return this.#agreedAt;
  }

  /** Something may have been missed. */
  soon(): void {
    this.#waker.wake();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { log, random } = this.#parts;
    while (!signal.aborted) {
      const isWoken = await this.#waker.sleep(ROUND_EVERY_MS * (0.5 + random()), signal, SOON_MS * (0.5 + random()));
      if (signal.aborted) return;
      const extent = isWoken || random() < WHOLE_SHARE ? WHOLE : LASTING;
      await this.round(this.#draw(), extent).catch((thrown: unknown) =>
        log.debug("a round of comparison failed", { error: String(thrown) }),
      );
    }
  }

  /** Compares with the first of these nodes that answers, until the same lasts on both; presences once. Undefined when nobody answered. */
  async round(candidates: readonly string[], extent: Extent = WHOLE): Promise<RoundResult | undefined> {
    for (const node of candidates) {
      try {
        const { isSame, ...result } = await this.#compareWith(node, extent);
        this.counters.rounds += 1;
        this.counters.taken += result.taken;
        this.counters.given += result.given;
        if (isSame) this.#agreedAt = this.#parts.clock.now();
        return result;
      } catch (thrown) {
        this.counters.failed += 1;
        if (!(thrown instanceof RiprapError)) throw thrown;
        if (thrown.code === "nats_not_connected") return undefined;
        this.#parts.log.debug("a node did not compare", { node, error: thrown.message });
      }
    }
    return undefined;
  }

  /** The other side of a round. Undefined for a type that is not of it. */
  answer({ node, type, payload }: Said): Reply | undefined {
    const { state, take } = this.#parts;
    if (type === WHOLE || type === LASTING)
      return Buffer.compare(payload, rootOf(state, type)) === 0 ? replyOf(SAME) : { type: "other", payload: NOTHING };
    if (!isMessageType(type)) return undefined;
    const message = parseMessage(type, payload);
    switch (message.type) {
      case "digest":
        return replyOf({ type: "difference", difference: state.difference(message.digest, this.#parts.random) });
      case "want":
        return replyOf({ type: "statements", statements: state.pick(message.ids, BATCH_BYTES_MAX) });
      case "statements":
        this.counters.taken += take(message.statements, node);
        return replyOf(SAME);
      default:
        return undefined;
    }
  }

  async #compareWith(node: string, extent: Extent): Promise<RoundResult & { readonly isSame: boolean }> {
    const { state, wire } = this.#parts;
    let [taken, given, idle] = [0, 0, 0];
    // What the other side refuses differs for ever: it is told once, and makes room for what comes after it.
    const offered = new Set<string>();
    for (let step = 0; step < STEPS_MAX; step++) {
      // Sixteen bytes tell two idle nodes that nothing differs; a digest is two KiB.
      const type = step === 0 ? extent : LASTING;
      const answer = await wire.ask(node, { type, payload: rootOf(state, type) }, ASK_MS);
      if (answer.type === "same") return { node, taken, given, isSame: true };
      const theirs = await this.#ask(node, { type: "digest", digest: state.digest() });
      if (theirs.type !== "difference") break;
      const { want, give } = state.compare(theirs.difference);
      const fetched = await this.#fetch(node, want);
      const sent = await this.#give(
        node,
        give.filter((id) => !offered.has(id)),
      );
      for (const { key } of sent) offered.add(statementId(key));
      taken += fetched;
      given += sent.length;
      idle = fetched + sent.length === 0 ? idle + 1 : 0;
      // What is left is refused on one side, and will be the next time too; or it is in another window.
      if (idle > (theirs.difference.window === undefined ? 0 : WINDOW_TRIES - 1)) break;
    }
    return { node, taken, given, isSame: false };
  }

  async #fetch(node: string, want: readonly string[]): Promise<number> {
    let taken = 0;
    let left = want;
    while (left.length > 0) {
      const ids = left.slice(0, HEADS_MAX);
      const answer = await this.#ask(node, { type: "want", ids });
      if (answer.type !== "statements" || answer.statements.length === 0) return taken;
      taken += this.#parts.take(answer.statements, node);
      // They come in the order of their dependence, not of our asking; what did not fit is wanted still.
      const came = new Set(answer.statements.map(({ key }) => statementId(key)));
      const rest = ids.filter((id) => !came.has(id));
      if (rest.length === ids.length) return taken;
      left = [...rest, ...left.slice(HEADS_MAX)];
    }
    return taken;
  }

  async #give(node: string, ids: readonly string[]): Promise<readonly Statement[]> {
    const batches = batchStatements(this.#parts.state.pick(ids, Number.POSITIVE_INFINITY));
    for (const batch of batches) await this.#ask(node, batch);
    return batches.flatMap(({ statements }) => statements);
  }

  async #ask(node: string, message: FleetMessage): Promise<FleetMessage> {
    const question = { type: message.type, payload: writeMessage(message) };
    const { type, payload } = await this.#parts.wire.ask(node, question, ASK_MS);
    return parseMessage(type, payload);
  }

  #draw(): string[] {
    const { peers, random } = this.#parts;
    const left = [...peers()];
    const drawn: string[] = [];
    while (drawn.length < TRIES && left.length > 0) {
      drawn.push(...left.splice(Math.floor(random() * left.length), 1));
    }
    return drawn;
  }
}

/** Everything that stands, or what lasts: all but presences. */
type Extent = typeof WHOLE | typeof LASTING;

const NOTHING = new Uint8Array();
const WHOLE = "root";
const LASTING = "lasting_root";
const SAME = { type: "same" } as const;

function rootOf(state: FleetState, extent: Extent): Uint8Array {
  return Uint8Array.from(Buffer.from(extent === WHOLE ? state.root() : state.lastingRoot(), "hex"));
}

function replyOf(message: FleetMessage): Reply {
  return { type: message.type, payload: writeMessage(message) };
}
