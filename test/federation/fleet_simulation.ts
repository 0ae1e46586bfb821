// A seeded fleet in one process: nodes gossip and compare digests over a broker that drops, doubles, delays, reorders and parts them. No network, no clock.
import { hash } from "node:crypto";
import { FleetState, type StatementStore } from "../../src/federation/fleet_state.ts";
import { Gate, type GateAnswer } from "../../src/federation/gate.ts";
import {
  BATCH_BYTES_MAX,
  batchStatements,
  type FleetMessage,
  isMessageType,
  parseMessage,
  writeMessage,
} from "../../src/federation/message.ts";
import { authorOf } from "../../src/federation/roster.ts";
import { type Statement, verifyStatement } from "../../src/federation/statement.ts";
import { type EpochStore, Voice } from "../../src/federation/voice.ts";
import { draw, random } from "../random.ts";
import { DOMAIN, memoryStore, NOW, voice } from "./fleet_fixture.ts";

const SUBJECTS = { gossip: (node: string) => `gossip.${node}`, ask: (node: string) => `ask.${node}` };

export interface Chaos {
  /** Of 100 messages. */
  readonly dropped: number;
  readonly doubled: number;
  readonly delayed: number;
}

interface Letter {
  readonly to: SimulatedNode;
  readonly from: SimulatedNode;
  readonly subject: string;
  readonly bytes: Uint8Array;
  readonly due: number;
}

type Disk = StatementStore & EpochStore & { copy(): Disk };

export interface SimulatedNode {
  readonly name: string;
  state: FleetState;
  voice: Voice;
  gate: Gate;
  disk: Disk;
  /** How far its clock is from the truth. */
  skew: number;
  side: number;
  /** What it asked last, by the id of the question. */
  asked: Map<string, string>;
  readonly told: string[];
}

const TICK_MS = 1000;
const verified = new Map<string, boolean>();

/** Every node asks the same questions of the same signatures: they are answered once. */
function verifyOnce(statement: Statement): boolean {
  const id = hash("sha256", statement.bytes, "hex");
  const known = verified.get(id) ?? verifyStatement(statement);
  verified.set(id, known);
  return known;
}

export class Simulation {
  readonly nodes: readonly SimulatedNode[];
  readonly next: () => number;
  readonly #root: Uint8Array;
  #chaos: Chaos = { dropped: 0, doubled: 0, delayed: 0 };
  #letters: Letter[] = [];
  now = NOW;

  constructor(names: readonly string[], options: { root: Uint8Array; grants: readonly Statement[]; seed: number }) {
    this.#root = options.root;
    this.next = random(options.seed);
    this.nodes = names.map((name) => this.#boot(name, openDisk()));
    for (const node of this.nodes) node.state.applyAll(options.grants, NOW);
  }

  set chaos(chaos: Chaos) {
    this.#chaos = chaos;
  }

  find(name: string): SimulatedNode {
    return this.nodes.find((node) => node.name === name) as SimulatedNode;
  }

  /** A node says something and tells the others. */
  say(node: SimulatedNode, statement: Statement): void {
    const outcome = node.state.apply(statement, this.#clock(node));
    if (outcome.outcome === "accepted") this.broadcast(node, [statement]);
  }

  broadcast(node: SimulatedNode, statements: readonly Statement[]): void {
    const subject = SUBJECTS.gossip(node.name);
    for (const batch of batchStatements(statements)) {
      const { bytes } = node.voice.seal({ subject, type: batch.type, payload: writeMessage(batch) }, this.#clock(node));
      for (const to of this.nodes) if (to !== node) this.post(node, to, subject, bytes);
    }
  }

  post(from: SimulatedNode, to: SimulatedNode, subject: string, bytes: Uint8Array): void {
    if (from.side !== to.side || draw(this.next, 100) < this.#chaos.dropped) return;
    const times = draw(this.next, 100) < this.#chaos.doubled ? 2 : 1;
    for (let i = 0; i < times; i += 1) {
      const wait = draw(this.next, 100) < this.#chaos.delayed ? draw(this.next, 4000) : 0;
      this.#letters.push({ to, from, subject, bytes, due: this.now + wait });
    }
  }

  /** One second: every node asks one other, and all that is due arrives in a random order. */
  tick(): void {
    this.now += TICK_MS;
    for (const node of this.nodes) this.ask(node, this.nodes[draw(this.next, this.nodes.length)] as SimulatedNode);
    for (let rounds = 0; rounds < 12; rounds += 1) {
      const due = this.#letters.filter((letter) => letter.due <= this.now);
      if (due.length === 0) return;
      this.#letters = this.#letters.filter((letter) => letter.due > this.now);
      while (due.length > 0) {
        const [letter] = due.splice(draw(this.next, due.length), 1);
        this.#deliver(letter as Letter);
      }
    }
  }

  ask(node: SimulatedNode, other: SimulatedNode): void {
    if (node !== other) this.#question(node, other, { type: "digest", digest: node.state.digest() });
  }

  /** The node starts again from a disk; what it held in memory is gone. */
  restart(node: SimulatedNode, disk: Disk = node.disk): void {
    const fresh = this.#boot(node.name, disk);
    Object.assign(node, { state: fresh.state, voice: fresh.voice, gate: fresh.gate, disk, asked: fresh.asked });
  }

  #question(node: SimulatedNode, other: SimulatedNode, message: FleetMessage): void {
    const subject = SUBJECTS.ask(other.name);
    const payload = writeMessage(message);
    const { bytes, id } = node.voice.seal({ subject, type: message.type, payload }, this.#clock(node));
    if (node.asked.size > 64) node.asked.clear();
    node.asked.set(id, subject);
    this.post(node, other, subject, bytes);
  }

  #deliver(letter: Letter): void {
    // What comes on another's subject is an answer: questions to this node have its own name.
    const isAnswer = letter.subject.startsWith("ask.") && letter.subject !== SUBJECTS.ask(letter.to.name);
    if (isAnswer) this.#hearReply(letter);
    else this.#hear(letter);
  }

  #hearReply({ to, from, subject, bytes }: Letter): void {
    for (const id of to.asked.keys()) {
      const answer = to.gate.admitReply(bytes, { subject, inReplyTo: id });
      if (!answer.ok) continue;
      to.asked.delete(id);
      this.#takeReply(to, from, answer);
      return;
    }
  }

  #hear({ to, from, subject, bytes }: Letter): void {
    const answer = to.gate.admit(bytes, { subject, now: this.#clock(to) });
    if (!answer.ok) {
      this.#refuse(to, from, answer, subject);
      return;
    }
    const { envelope } = answer;
    if (!isMessageType(envelope.type)) return;
    const message = parseMessage(envelope.type, envelope.payload);
    if (message.type === "statements") this.#apply(to, message.statements);
    const reply = this.#answer(to, message);
    if (reply !== undefined) this.#reply(to, from, { subject, inReplyTo: envelope.id }, reply);
  }

  #reply(
    node: SimulatedNode,
    to: SimulatedNode,
    about: { subject: string; inReplyTo: string },
    message: FleetMessage,
  ): void {
    const letter = { ...about, type: message.type, payload: writeMessage(message) };
    this.post(node, to, about.subject, node.voice.seal(letter, this.#clock(node)).bytes);
  }

  #answer(node: SimulatedNode, message: FleetMessage): FleetMessage | undefined {
    if (message.type === "digest") {
      if (message.digest.root === node.state.root()) return { type: "same" };
      return { type: "difference", difference: node.state.difference(message.digest, this.next) };
    }
    if (message.type !== "want") return undefined;
    return { type: "statements", statements: node.state.pick(message.ids, BATCH_BYTES_MAX) };
  }

  #takeReply(node: SimulatedNode, from: SimulatedNode, answer: GateAnswer): void {
    if (!answer.ok || !isMessageType(answer.envelope.type)) return;
    const message = parseMessage(answer.envelope.type, answer.envelope.payload);
    if (message.type === "statements") this.#apply(node, message.statements);
    if (message.type === "notice") {
      // A message that the broker doubled is answered so too, and proves nothing new.
      if (node.voice.recover(message.proof) || message.code !== "rolled_back") node.told.push(message.code);
    }
    if (message.type !== "difference") return;
    const { want, give } = node.state.compare(message.difference);
    if (want.length > 0) this.#question(node, from, { type: "want", ids: want });
    if (give.length > 0) this.broadcast(node, node.state.pick(give, BATCH_BYTES_MAX));
  }

  /** A question that is refused for its author's own sake is answered by a notice. */
  #refuse(node: SimulatedNode, from: SimulatedNode, answer: GateAnswer, subject: string): void {
    if (answer.ok || answer.envelope === undefined || !subject.startsWith("ask.")) return;
    const code = {
      rolled_back: "rolled_back",
      replayed: "rolled_back",
      reordered: "rolled_back",
      stale: "stale",
      from_future: "from_future",
    } as const;
    const known = code[answer.code as keyof typeof code];
    if (known === undefined) return;
    const notice = {
      type: "notice",
      code: known,
      time: this.#clock(node),
      proof: answer.proof ?? new Uint8Array(),
    } as const;
    this.#reply(node, from, { subject, inReplyTo: answer.envelope.id }, notice);
  }

  #apply(node: SimulatedNode, statements: readonly Statement[]): void {
    const fresh = node.state.applyAll(statements, this.#clock(node));
    const stale = fresh.flatMap(({ outcome }) => (outcome.outcome === "stale" ? [outcome.held] : []));
    if (stale.length > 0) this.broadcast(node, stale.slice(0, 8));
  }

  #boot(name: string, disk: Disk): SimulatedNode {
    const state = new FleetState({ trustDomain: DOMAIN, roots: [this.#root], store: disk, verify: verifyOnce });
    return {
      ...{ name, state, disk, skew: 0, side: 0, asked: new Map(), told: [] },
      voice: new Voice({ trustDomain: DOMAIN, signer: voice(name), store: disk }),
      gate: new Gate({
        ...{ trustDomain: DOMAIN, subjects: SUBJECTS, node: name, startedAt: 0 },
        authorOf: (key) => authorOf(state, key),
      }),
    };
  }

  #clock(node: SimulatedNode): number {
    return this.now + node.skew;
  }
}

function openDisk(rows: ReadonlyMap<string, Uint8Array> = new Map(), epoch = 0): Disk {
  const store = memoryStore();
  for (const [key, bytes] of rows) store.put(key, bytes);
  let last = epoch;
  return {
    ...store,
    read: () => last,
    write(next) {
      last = next;
    },
    copy: () => openDisk(store.rows, last),
  };
}
