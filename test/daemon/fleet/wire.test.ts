// What a node answers to one that the fleet has revoked, and what that one makes of it: two wires over a broker in memory.

import { describe, expect, test } from "bun:test";
import { Wire, type WireParts } from "../../../src/daemon/fleet/wire.ts";
import { RiprapError } from "../../../src/error.ts";
import type { FleetState } from "../../../src/federation/fleet_state.ts";
import { Gate } from "../../../src/federation/gate.ts";
import { authorOf, findNode, whyRevoked } from "../../../src/federation/roster.ts";
import type { Statement } from "../../../src/federation/statement.ts";
import { fleetSubjects } from "../../../src/federation/subject.ts";
import type { Message, Transport } from "../../../src/federation/transport.ts";
import { Voice } from "../../../src/federation/voice.ts";
import { DOMAIN, hex, makeFleet, NOW, say, sayNode, sayRevoked, take, voice } from "../../federation/fleet_fixture.ts";
import { ManualClock } from "../../manual_clock.ts";

const SUBJECTS = fleetSubjects(DOMAIN);
const NOTHING = new Uint8Array();
const BEN = { type: "node", value: "ben" } as const;
const fleet = makeFleet();

/** Delivers at once; a question is answered by the first answer. */
class Broker {
  readonly #handlers: { readonly subject: string; handler(message: Message): void }[] = [];
  /** Every answer to a question. */
  readonly answers: Uint8Array[] = [];
  /** On their way between nodes, not as an answer. */
  readonly published: string[] = [];

  connect(): Transport {
    const broker = this;
    return {
      state: { phase: "connected", server: "memory", hasStore: false },
      publish(subject, data) {
        broker.published.push(subject);
        broker.#deliver({ subject, data, respond: () => undefined });
        return true;
      },
      subscribe(subject, handler) {
        broker.#handlers.push({ subject, handler });
        return { close: () => undefined };
      },
      request: (subject, data) => broker.#ask(subject, data),
      store: async () => undefined,
      onState: () => undefined,
      refused: [],
      onRefusal: () => undefined,
      close: async () => undefined,
    };
  }

  async #ask(subject: string, data: Uint8Array): Promise<Uint8Array> {
    const before = this.answers.length;
    this.#deliver({ subject, data, respond: (bytes) => void this.answers.push(bytes) });
    await Promise.resolve();
    const answer = this.answers[before];
    if (answer === undefined) throw new RiprapError("nats_no_answer", "nobody answers");
    return answer;
  }

  #deliver(message: Message): void {
    for (const { subject, handler } of this.#handlers) {
      const isHeard = subject.endsWith("*")
        ? message.subject.startsWith(subject.slice(0, -1))
        : message.subject === subject;
      if (isHeard) handler(message);
    }
  }
}

interface Told {
  readonly from: string;
  readonly statements: readonly Statement[];
}

interface Place {
  readonly broker: Broker;
  readonly clock: ManualClock;
  readonly state: FleetState;
  readonly told?: Told[];
  isMember?(): boolean;
}

function open(name: string, { broker, clock, state, told = [], isMember = () => true }: Place): Wire {
  let epoch = 0;
  const store = {
    read: () => epoch,
    write(next: number) {
      epoch = next;
    },
  };
  const log: WireParts["log"] = { error() {}, warn() {}, info() {}, debug() {} };
  const authority = (key: Uint8Array) => authorOf(state, key);
  return new Wire({
    transport: broker.connect(),
    gate: new Gate({ trustDomain: DOMAIN, subjects: SUBJECTS, node: name, authorOf: authority, startedAt: 0 }),
    voice: new Voice({ trustDomain: DOMAIN, signer: voice(name), store }),
    ...{ subjects: SUBJECTS, node: name, clock, log },
    isMember,
    nodeOf: (key) => authority(key)?.node,
    onBroadcast: () => undefined,
    onAsk: () => ({ type: "same", payload: NOTHING }),
    onGap: () => undefined,
    onRecovered: () => undefined,
    whyRevoked: (node) => whyRevoked(state, node),
    onRevoked: (statements, from) => void told.push({ from, statements }),
  });
}

/** Ada knows that ben is revoked, by one of whom ben has never heard; ben does not. */
function parted() {
  const clock = new ManualClock(NOW);
  const broker = new Broker();
  const [atAda, atBen] = [fleet.state(), fleet.state()];
  const key = hex(voice("nora").publicKey);
  const grant = say(fleet.root, ["issuer", "nora"], { key, authority: undefined, idPrefixes: [`spiffe://${DOMAIN}/`] });
  const revocation = sayRevoked(voice("nora"), BEN);
  for (const statement of [grant, sayNode(voice("iris"), "nora"), revocation]) take(atAda, statement);
  const told: Told[] = [];
  open("ada", { broker, clock, state: atAda });
  const ben = open("ben", { broker, clock, state: atBen, told });
  const ask = () => ben.ask("ada", { type: "root", payload: NOTHING }, 1000);
  return { clock, broker, atBen, told, ben, ask, grant, revocation };
}

describe("Wire", () => {
  test("answers a revoked node with the statement and the right of its author alone, which convince it", async () => {
    const { ask, told, atBen, grant, revocation } = parted();
    await expect(ask()).rejects.toMatchObject({ code: "fleet_answer_refused" });
    expect(told.map(({ from, statements }) => [from, statements.map(({ key }) => key)])).toEqual([
      ["ada", [grant.key, revocation.key]],
    ]);
    atBen.applyAll(told[0]?.statements ?? [], NOW);
    expect(findNode(atBen, "ben")).toMatchObject({ state: "revoked", statement: revocation.hash });
  });

  test("answers a revoked node once a second, whatever it asks, and says nothing to what it broadcasts", async () => {
    const { ask, ben, broker, clock } = parted();
    await expect(ask()).rejects.toMatchObject({ code: "fleet_answer_refused" });
    for (let i = 0; i < 20; i++) await expect(ask()).rejects.toMatchObject({ code: "nats_no_answer" });
    await clock.advance(1000);
    await expect(ask()).rejects.toMatchObject({ code: "fleet_answer_refused" });
    expect(broker.answers).toHaveLength(2);
    await clock.advance(1000);
    expect(ben.broadcast("same", NOTHING)).toBe(true);
    expect([broker.answers.length, broker.published]).toEqual([2, [SUBJECTS.gossip("ben")]]);
  });

  test("gives no answer to who is not the revoked node that he says he is", async () => {
    const { broker, clock, told, atBen } = parted();
    const liar = { publicKey: voice("ben").publicKey, sign: voice("eve").sign };
    const forger = new Voice({ trustDomain: DOMAIN, signer: liar, store: { read: () => 0, write: () => undefined } });
    const subject = SUBJECTS.ask("ada");
    const { bytes } = forger.seal({ subject, type: "root", payload: NOTHING }, clock.now());
    await expect(broker.connect().request(subject, bytes, 1000)).rejects.toMatchObject({ code: "nats_no_answer" });
    expect([broker.answers.length, told.length, findNode(atBen, "ben")?.state]).toEqual([0, 0, "active"]);
  });

  test("says nothing for a node that has lost its name: neither a broadcast, nor an answer, nor a notice", async () => {
    const [clock, broker] = [new ManualClock(NOW), new Broker()];
    const place = { broker, clock };
    let isMember = false;
    const ada = open("ada", { ...place, state: fleet.state(), isMember: () => isMember });
    const ben = open("ben", { ...place, clock: new ManualClock(NOW - 3_600_000), state: fleet.state() });
    const ask = () => ben.ask("ada", { type: "root", payload: NOTHING }, 1000);
    await expect(ask()).rejects.toMatchObject({ code: "nats_no_answer" });
    ben.broadcast("same", NOTHING);
    expect([ada.broadcast("same", NOTHING), broker.published]).toEqual([false, [SUBJECTS.gossip("ben")]]);
    isMember = true;
    await expect(ask()).rejects.toThrow("it says stale");
    expect(ada.broadcast("same", NOTHING)).toBe(true);
  });
});
