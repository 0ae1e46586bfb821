// Decides which messages are taken: signed by a known node, for this subject and trust domain, now, and not heard before. Counts every refusal by its reason.
import { describeError } from "../error.ts";
import { ENVELOPE_BYTES_MAX, type Envelope, parseEnvelope, verifyEnvelope } from "./envelope.ts";
import type { FleetSubjects } from "./subject.ts";

/** What a message may be ahead of or behind this node's clock: clocks of a fleet, and a broker that queues for a moment. */
export const FUTURE_MAX_MS = 60_000;
export const STALE_MAX_MS = 120_000;
/** More than a roster has nodes. */
const AUTHORS_MAX = 131_072;
/** Its own and that of the node that hears; a key that has several names has a few more. */
export const AUTHOR_SUBJECTS_MAX = 4;
/** A full gate looks this often for authors that will not be heard again: it reads all of them. */
const SWEEP_EVERY_MS = 60_000;

export const GATE_REFUSALS = [
  "too_large",
  "malformed",
  "wrong_trust_domain",
  "wrong_subject",
  "author_unknown",
  "author_revoked",
  "forged",
  "stale",
  "from_future",
  "rolled_back",
  "replayed",
  "reordered",
  "not_asked",
  "too_many_authors",
] as const;
export type GateRefusalCode = (typeof GATE_REFUSALS)[number];

export interface GateAccepted {
  readonly ok: true;
  readonly envelope: Envelope;
  /** The node that the key is of. */
  readonly node: string;
  /** How many of its messages on this subject never came. */
  readonly missed: number;
}

export interface GateRefused {
  readonly ok: false;
  readonly code: GateRefusalCode;
  /** A sentence for the log. */
  readonly message: string;
  /** The message, where its signature is good: whom to tell, and by how much its clock differs. */
  readonly envelope: Envelope | undefined;
  /** Of `rolled_back`, `replayed` and `reordered`: the last that was heard, for its author to see. */
  readonly proof: Uint8Array | undefined;
}

export type GateAnswer = GateAccepted | GateRefused;

/** Who a key is of; told by the roster. */
export type AuthorStanding =
  /** `names`: all that the key has, `node` the first of them. */
  | { readonly standing: "active"; readonly node: string; readonly names: readonly string[] }
  | { readonly standing: "revoked"; readonly node: string }
  | undefined;

export interface GateOptions {
  readonly trustDomain: string;
  readonly subjects: Pick<FleetSubjects, "gossip" | "ask">;
  /** The one that hears. */
  readonly node: string;
  authorOf(key: Uint8Array): AuthorStanding;
  /** When this node began to hear, by its clock: what was signed before may have been heard by the node that ran here before, and is refused. */
  readonly startedAt: number;
  /** AUTHORS_MAX unless given. */
  readonly authorsMax?: number;
}

/** The last that was heard of an author on one subject. */
interface Heard {
  readonly sequence: number;
  readonly proof: Uint8Array;
}

/** An author's epoch holds on every subject: one that went back is noticed on the first word, whatever it speaks of. */
interface Window {
  readonly author: Uint8Array;
  readonly epoch: number;
  readonly proof: Uint8Array;
  readonly subjects: Map<string, Heard>;
}

type Refusal = readonly [code: GateRefusalCode, fact: string];

export class Gate {
  readonly #options: GateOptions;
  readonly #windows = new Map<string, Window>();
  readonly #counts = new Map<GateRefusalCode, number>();
  #sweptAt = 0;
  #startedAt: number;
  /** By this node's clock, when it judged last. */
  #judgedAt: number;
  #accepted = 0;
  #missed = 0;

  constructor(options: GateOptions) {
    this.#options = options;
    this.#startedAt = options.startedAt;
    this.#judgedAt = options.startedAt;
  }

  /** Judges a message that came on `subject`, its author's own or this node's; the windows move only when it is taken. */
  admit(bytes: Uint8Array, { subject, now }: { subject: string; now: number }): GateAnswer {
    this.#followClock(now);
    const opened = this.#open(bytes, subject);
    if ("code" in opened) return opened;
    const { envelope, node, names } = opened;
    if (!this.#mayCarry(subject, names)) {
      return this.#refuse(["wrong_subject", `it is neither a subject of ${node} nor this node's`], envelope);
    }
    if (envelope.inReplyTo !== "" || envelope.sequence === 0) {
      return this.#refuse(["not_asked", "it is a reply, and nobody asked here"], envelope);
    }
    const late = this.#timeFault(envelope, now);
    if (late !== undefined) return this.#refuse(late, envelope);
    const window = this.#windows.get(envelope.authorId);
    const heard = window?.epoch === envelope.epoch ? window.subjects.get(subject) : undefined;
    const order = orderFault(envelope, window, heard);
    if (order !== undefined) return this.#refuse(order, envelope, (heard ?? window)?.proof);
    const full = heard === undefined ? this.#boundFault(window, envelope, now) : undefined;
    if (full !== undefined) return this.#refuse(full, envelope);
    const missed = heard === undefined ? 0 : envelope.sequence - heard.sequence - 1;
    this.#note(envelope, subject, window);
    this.#missed += missed;
    this.#accepted += 1;
    return { ok: true, envelope, node, missed };
  }

  /**
   * Judges a reply to the request with the id `inReplyTo`. Its freshness is the request's, so that a node whose clock is wrong still hears the
   * answers to what it asks. The caller takes one reply for each request and node.
   */
  admitReply(bytes: Uint8Array, { subject, inReplyTo }: { subject: string; inReplyTo: string }): GateAnswer {
    const opened = this.#open(bytes, subject);
    if ("code" in opened) return opened;
    const { envelope, node } = opened;
    if (envelope.inReplyTo === "" || envelope.inReplyTo !== inReplyTo) {
      return this.#refuse(["not_asked", "it answers another question"], envelope);
    }
    this.#accepted += 1;
    return { ok: true, envelope, node, missed: 0 };
  }

  /** What an admitted message holds cannot be read. */
  countUnreadable(): void {
    this.#counts.set("malformed", (this.#counts.get("malformed") ?? 0) + 1);
  }

  counts(): { accepted: number; missed: number; refused: Readonly<Record<GateRefusalCode, number>> } {
    const refused = Object.fromEntries(GATE_REFUSALS.map((code) => [code, this.#counts.get(code) ?? 0]));
    return { accepted: this.#accepted, missed: this.#missed, refused: refused as Record<GateRefusalCode, number> };
  }

  /**
   * A clock that is set back behind the start was ahead at the start. For as long as it heard by then this node has windows of its own: what was signed
   * before that may be a replay still.
   */
  #followClock(now: number): void {
    if (now < this.#startedAt) this.#startedAt = now - (this.#judgedAt - this.#startedAt);
    this.#judgedAt = now;
  }

  #mayCarry(subject: string, names: readonly string[]): boolean {
    const { subjects, node } = this.#options;
    return subject === subjects.ask(node) || names.some((name) => subject === subjects.gossip(name));
  }

  /** Whether there is room for one more subject of an author. */
  #boundFault(window: Window | undefined, { epoch }: Envelope, now: number): Refusal | undefined {
    const { authorsMax = AUTHORS_MAX } = this.#options;
    if (window !== undefined) {
      // With a new epoch its subjects begin anew.
      const isFull = window.epoch === epoch && window.subjects.size >= AUTHOR_SUBJECTS_MAX;
      return isFull ? ["too_many_authors", `it is heard on ${AUTHOR_SUBJECTS_MAX} subjects already`] : undefined;
    }
    if (this.#windows.size >= authorsMax) this.#sweep(now);
    return this.#windows.size >= authorsMax
      ? ["too_many_authors", `${authorsMax} authors are heard already`]
      : undefined;
  }

  /** Forgets the keys that are refused as revoked or unknown, whatever they say. */
  #sweep(now: number): void {
    if (Math.abs(now - this.#sweptAt) < SWEEP_EVERY_MS) return;
    this.#sweptAt = now;
    for (const [authorId, { author }] of this.#windows)
      if (this.#options.authorOf(author)?.standing !== "active") this.#windows.delete(authorId);
  }

  #note({ author, authorId, epoch, sequence, proof }: Envelope, subject: string, window: Window | undefined): void {
    const subjects = window?.epoch === epoch ? window.subjects : new Map<string, Heard>();
    this.#windows.set(authorId, { author, epoch, proof, subjects: subjects.set(subject, { sequence, proof }) });
  }

  /** Everything that does not depend on what came before. */
  #open(
    bytes: Uint8Array,
    subject: string,
  ): { envelope: Envelope; node: string; names: readonly string[] } | GateRefused {
    if (bytes.length > ENVELOPE_BYTES_MAX) {
      return this.#refuse(["too_large", `it is longer than ${ENVELOPE_BYTES_MAX} bytes`]);
    }
    let envelope: Envelope;
    try {
      envelope = parseEnvelope(bytes);
    } catch (thrown) {
      return this.#refuse(["malformed", describeError(thrown)]);
    }
    const { trustDomain } = this.#options;
    if (envelope.trustDomain !== trustDomain) {
      return this.#refuse(["wrong_trust_domain", `it is of another trust domain than ${trustDomain}`]);
    }
    if (envelope.subject !== subject) return this.#refuse(["wrong_subject", "it was signed for another subject"]);
    const author = this.#options.authorOf(envelope.author);
    if (author === undefined) return this.#refuse(["author_unknown", `no node has the key ${envelope.authorId}`]);
    if (author.standing === "revoked") {
      const own = verifyEnvelope(envelope) ? envelope : undefined;
      return this.#refuse(["author_revoked", `the node ${author.node} is revoked`], own);
    }
    if (!verifyEnvelope(envelope)) return this.#refuse(["forged", `it is not signed by ${author.node}`]);
    return { envelope, node: author.node, names: author.names };
  }

  #timeFault({ time }: Envelope, now: number): Refusal | undefined {
    const seconds = Math.round((time - now) / 1000);
    if (time > now + FUTURE_MAX_MS) return ["from_future", `its clock is ${seconds} s ahead of ours`];
    if (time < now - STALE_MAX_MS) return ["stale", `it is ${-seconds} s old, or its clock is behind ours`];
    if (time < this.#startedAt) return ["stale", "it was signed before this node began to hear"];
    return undefined;
  }

  #refuse([code, fact]: Refusal, envelope?: Envelope, proof?: Uint8Array): GateRefused {
    this.#counts.set(code, (this.#counts.get(code) ?? 0) + 1);
    return { ok: false, code, message: `Cannot take the message: ${fact}`, envelope, proof };
  }
}

function orderFault(envelope: Envelope, window: Window | undefined, heard: Heard | undefined): Refusal | undefined {
  if (window !== undefined && envelope.epoch < window.epoch) {
    return ["rolled_back", `its author is at its start ${envelope.epoch}, and has spoken at ${window.epoch}`];
  }
  if (heard === undefined || envelope.sequence > heard.sequence) return undefined;
  return envelope.sequence === heard.sequence && Buffer.compare(envelope.proof, heard.proof) === 0
    ? ["replayed", `the message ${envelope.sequence} came twice`]
    : ["reordered", `the message ${envelope.sequence} came after ${heard.sequence}`];
}
