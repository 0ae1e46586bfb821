// Signed messages between nodes over a transport: seals what this node says, opens what others say, tells a node that fell back. Judges no statement.

import type { Clock } from "../../clock.ts";
import { RiprapError } from "../../error.ts";
import type { Gate, GateRefused } from "../../federation/gate.ts";
import { type NoticeCode, parseMessage, writeMessage } from "../../federation/message.ts";
import type { Statement } from "../../federation/statement.ts";
import type { FleetSubjects } from "../../federation/subject.ts";
import type { Message, Transport } from "../../federation/transport.ts";
import type { Voice } from "../../federation/voice.ts";
import type { Log } from "../log.ts";

export interface Said {
  readonly node: string;
  readonly type: string;
  readonly payload: Uint8Array;
  /** By the author's clock, milliseconds. */
  readonly time: number;
}

/** What is answered to a question. */
export interface Reply {
  readonly type: string;
  readonly payload: Uint8Array;
}

export interface WireParts {
  readonly transport: Transport;
  readonly gate: Gate;
  readonly voice: Voice;
  readonly subjects: FleetSubjects;
  readonly node: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Whether the roster has this node: what it says while its name is not its own, nobody takes, and it would be in the way of who has the name. */
  isMember(): boolean;
  /** The node that a key is of. */
  nodeOf(key: Uint8Array): string | undefined;
  onBroadcast(said: Said): void;
  /** Undefined: no answer. */
  onAsk(said: Said): Promise<Reply | undefined> | Reply | undefined;
  /** Some messages of a node never came: what was in them has to be fetched. */
  onGap(node: string): void;
  /** Peers proved that this node has spoken later than it remembers. */
  onRecovered(): void;
  /** What a node is told that is revoked: for its own eyes, and nothing else. */
  whyRevoked(node: string): readonly Statement[];
  /** Another node says that this one is revoked, and by what; believed for the signatures of that alone. */
  onRevoked(statements: readonly Statement[], node: string): void;
}

/** A node that fell back, is revoked, or whose clock is wrong, is told this often at most. */
const TELL_EVERY_MS = 1000;
/** And this many of them are remembered. */
const TOLD_MAX = 1024;
const ASKED_AT_ONCE_MAX = 64;
const NOTICE = "notice";
const REVOKED = "revoked";

export interface WireCounters {
  sent: number;
  unsent: number;
  answered: number;
  busy: number;
  told: number;
  /** Of the last broadcast that was taken, by the author's clock and ours. */
  lagMs: number;
  /** When that was, by ours; 0: none yet. */
  heardAt: number;
}

export class Wire {
  readonly counters: WireCounters = { sent: 0, unsent: 0, answered: 0, busy: 0, told: 0, lagMs: 0, heardAt: 0 };
  readonly #parts: WireParts;
  readonly #told = new Map<string, number>();
  #answering = 0;
  /** How far ahead of this node's clock the others are, when they say so. */
  #clockFault: string | undefined;

  constructor(parts: WireParts) {
    this.#parts = parts;
    const { transport, subjects, node } = parts;
    transport.subscribe(subjects.allGossip, (message) => this.#hear(message));
    transport.subscribe(subjects.ask(node), (message) => void this.#answer(message));
  }

  /** A sentence for status, when other nodes refuse what this one says for its clock. */
  get clockFault(): string | undefined {
    return this.#clockFault;
  }

  /** To every node. False when it did not leave. */
  broadcast(type: string, payload: Uint8Array): boolean {
    const { transport, voice, subjects, node, clock, isMember } = this.#parts;
    if (!isMember()) return false;
    const subject = subjects.gossip(node);
    // Sealed only for a transport that can send: a sequence that was counted and not sent is a gap to others.
    const sent =
      transport.state.phase === "connected" &&
      transport.publish(subject, voice.seal({ subject, type, payload }, clock.now()).bytes);
    this.counters[sent ? "sent" : "unsent"] += 1;
    return sent;
  }

  /** Asks one node. Throws what Transport.request throws, or RiprapError `fleet_answer_refused`. */
  async ask(node: string, question: Reply, timeoutMs: number): Promise<Said> {
    const { transport, voice, gate, subjects, clock } = this.#parts;
    const subject = subjects.ask(node);
    const { bytes, id } = voice.seal({ subject, ...question }, clock.now());
    const answer = gate.admitReply(await transport.request(subject, bytes, timeoutMs), { subject, inReplyTo: id });
    if (!answer.ok) throw refused(node, answer.message);
    const { envelope } = answer;
    if (answer.node !== node) throw refused(node, `${answer.node} answered in its place`);
    if (envelope.type === NOTICE) throw refused(node, `it says ${this.#heed(node, envelope.payload)}`);
    if (envelope.type === REVOKED) throw refused(node, this.#learnEnd(node, envelope.payload));
    this.#clockFault = undefined;
    return { node, type: envelope.type, payload: envelope.payload, time: envelope.time };
  }

  #hear({ subject, data }: Message): void {
    const { gate, clock, log, onGap, onBroadcast } = this.#parts;
    const answer = gate.admit(data, { subject, now: clock.now() });
    if (!answer.ok) {
      log.debug("a fleet message was refused", { subject, code: answer.code, reason: answer.message });
      this.#tell(answer);
      return;
    }
    const { envelope, node, missed } = answer;
    this.counters.heardAt = clock.now();
    this.counters.lagMs = Math.max(0, this.counters.heardAt - envelope.time);
    if (missed > 0) onGap(node);
    onBroadcast({ node, type: envelope.type, payload: envelope.payload, time: envelope.time });
  }

  async #answer({ subject, data, respond }: Message): Promise<void> {
    const { gate, voice, clock, log, onAsk, isMember } = this.#parts;
    // The question is to who has the name now.
    if (!isMember()) return;
    const now = clock.now();
    const answer = gate.admit(data, { subject, now });
    const reply = (inReplyTo: string, { type, payload }: Reply) =>
      respond(voice.seal({ subject, type, payload, inReplyTo }, clock.now()).bytes);
    if (!answer.ok) {
      log.debug("a fleet question was refused", { subject, code: answer.code, reason: answer.message });
      const notice = answer.code === "author_revoked" ? this.#end(answer, now) : noticeOf(answer, now);
      if (notice !== undefined && answer.envelope !== undefined) reply(answer.envelope.id, notice);
      return;
    }
    const { envelope, node } = answer;
    if (envelope.type === NOTICE) return void this.#heed(node, envelope.payload);
    // Each holds an answer of up to a megabyte: who is refused asks another node.
    if (this.#answering >= ASKED_AT_ONCE_MAX) {
      this.counters.busy += 1;
      return reply(envelope.id, { type: NOTICE, payload: writeNotice("busy", now) });
    }
    this.#answering += 1;
    try {
      const given = await onAsk({ node, type: envelope.type, payload: envelope.payload, time: envelope.time });
      if (given !== undefined) reply(envelope.id, given);
      this.counters.answered += 1;
    } catch (thrown) {
      if (isMalformed(thrown)) gate.countUnreadable();
      log.warn("a fleet question could not be answered", { node, type: envelope.type, error: String(thrown) });
    } finally {
      this.#answering -= 1;
    }
  }

  /** A node whose disk is older than what it said cannot know it: its own later word shows it. */
  #tell(answer: GateRefused): void {
    const { clock, voice, transport, subjects, nodeOf } = this.#parts;
    const now = clock.now();
    const notice = noticeOf(answer, now);
    const author = answer.envelope;
    if (notice === undefined || author === undefined || !this.#parts.isMember()) return;
    const node = nodeOf(author.author);
    if (node === undefined || !this.#mayTell(author.authorId, now)) return;
    const subject = subjects.ask(node);
    transport.publish(subject, voice.seal({ subject, ...notice }, now).bytes);
  }

  /** A node that was away when it was revoked asks the others, who no longer hear it: to each question this is the answer. */
  #end({ envelope }: GateRefused, now: number): Reply | undefined {
    const node = envelope === undefined ? undefined : this.#parts.nodeOf(envelope.author);
    if (envelope === undefined || node === undefined || !this.#mayTell(envelope.authorId, now)) return undefined;
    const statements = this.#parts.whyRevoked(node);
    return { type: REVOKED, payload: writeMessage({ type: REVOKED, statements }) };
  }

  #mayTell(authorId: string, now: number): boolean {
    // Either way: a clock that was set back must not keep it silent.
    if (Math.abs(now - (this.#told.get(authorId) ?? 0)) < TELL_EVERY_MS) return false;
    if (this.#told.size >= TOLD_MAX) this.#told.clear();
    this.#told.set(authorId, now);
    this.counters.told += 1;
    return true;
  }

  #learnEnd(node: string, payload: Uint8Array): string {
    const message = parseMessage(REVOKED, payload);
    if (message.type === REVOKED) this.#parts.onRevoked(message.statements, node);
    return "it says that this node is revoked";
  }

  /** What another node says of a message of this one; its code. */
  #heed(node: string, payload: Uint8Array): string {
    const { voice, log, onRecovered } = this.#parts;
    const message = parseMessage(NOTICE, payload);
    if (message.type !== "notice") return "nothing";
    const { code, proof, time } = message;
    if (code === "rolled_back" && voice.recover(proof)) {
      log.warn("this node's state is older than what it has said: it goes on after that", { epoch: voice.epoch });
      onRecovered();
    }
    if (code === "stale" || code === "from_future") this.#learnClock(node, time);
    return code;
  }

  #learnClock(node: string, theirs: number): void {
    const seconds = Math.round((theirs - this.#parts.clock.now()) / 1000);
    if (this.#clockFault === undefined)
      this.#parts.log.error("other nodes refuse this one for its clock", { node, behindSeconds: seconds });
    const direction = seconds > 0 ? "behind" : "ahead of";
    this.#clockFault = `Other nodes refuse what this one says: its clock is ${Math.abs(seconds)} s ${direction} that of ${node}. Set the clock.`;
  }
}

/** What the author of a refused message should hear, if anything. Only of messages with a good signature. */
function noticeOf({ code, envelope, proof }: GateRefused, now: number): Reply | undefined {
  if (envelope === undefined) return undefined;
  if ((code === "rolled_back" || code === "reordered") && proof !== undefined)
    return { type: NOTICE, payload: writeNotice("rolled_back", now, proof) };
  return code === "stale" || code === "from_future" ? { type: NOTICE, payload: writeNotice(code, now) } : undefined;
}

function writeNotice(code: NoticeCode, time: number, proof: Uint8Array = new Uint8Array()): Uint8Array {
  return writeMessage({ type: "notice", code, time, proof });
}

/** By the one who asks; anything else is a fault of this node. */
function isMalformed(thrown: unknown): boolean {
  return thrown instanceof RiprapError && thrown.code.endsWith("_malformed");
}

function refused(node: string, fact: string): RiprapError {
  return new RiprapError("fleet_answer_refused", `Cannot take the answer of ${node}: ${fact}`);
}
