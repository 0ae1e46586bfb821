// A peer of a fleet as the benches simulate it: a real connection, with a state, a gate and a voice of its own.

import { systemClock } from "../../src/clock.ts";
import { AntiEntropy } from "../../src/daemon/fleet/anti_entropy.ts";
import { OwnVoice } from "../../src/daemon/fleet/own_voice.ts";
import { worthSpreading } from "../../src/daemon/fleet/reading.ts";
import { Wire } from "../../src/daemon/fleet/wire.ts";
import type { Log } from "../../src/daemon/log.ts";
import { FleetState, type StatementStore } from "../../src/federation/fleet_state.ts";
import { Gate } from "../../src/federation/gate.ts";
import { batchStatements, parseMessage, writeMessage } from "../../src/federation/message.ts";
import { openNats } from "../../src/federation/nats.ts";
import { authorOf } from "../../src/federation/roster.ts";
import { type Statement, type StatementDraft, signStatement, verifyStatement } from "../../src/federation/statement.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import type { Transport } from "../../src/federation/transport.ts";
import { Voice } from "../../src/federation/voice.ts";
import { DOMAIN, makeRoot, say, sayNode, voice } from "../federation/fleet_fixture.ts";
import type { NatsServer } from "../fleet/nats_server.ts";

export const SUBJECTS = fleetSubjects(DOMAIN);
/** The issuing node that is also the operator. */
export const SPEAKER = "speaker";

/** What every node of a fleet knows from its token: who the root made an issuing node and an operator, and who speaks. */
function groundStatements(): { root: ReturnType<typeof makeRoot>; ground: Statement[] } {
  const root = makeRoot();
  const speaker = voice(SPEAKER);
  const key = Buffer.from(speaker.publicKey).toString("hex");
  const rights = {
    kinds: ["Service", "AccessPolicy"],
    groups: undefined,
    idPrefixes: undefined,
    revoke: ["id"] as const,
  };
  const ground = [
    say(root, ["issuer", SPEAKER], { key, authority: undefined, idPrefixes: [`spiffe://${DOMAIN}/`] }),
    say(root, ["operator", "admin"], { key, ...rights }),
    sayNode(speaker, SPEAKER),
  ];
  return { root, ground };
}

/** Verified once for all states of this process that begin with it. */
export class SharedGround {
  readonly #root: ReturnType<typeof makeRoot>;
  readonly statements: readonly Statement[];
  readonly #known: ReadonlySet<Statement>;

  constructor(extra: readonly Statement[]) {
    const { root, ground } = groundStatements();
    this.#root = root;
    this.statements = [...ground, ...extra];
    this.#known = new Set(this.statements);
  }

  /** A state that knows all of it, and verifies whatever else it hears. */
  state(): FleetState {
    const verify = (statement: Statement) => this.#known.has(statement) || verifyStatement(statement);
    const state = new FleetState({ trustDomain: DOMAIN, roots: [this.#root.publicKey], verify });
    state.applyAll(this.statements, Date.now());
    return state;
  }
}

export function openState(extra: readonly Statement[] = [], store?: StatementStore): FleetState {
  const { root, ground } = groundStatements();
  const kept = store === undefined ? {} : { store };
  const state = new FleetState({ trustDomain: DOMAIN, roots: [root.publicKey], ...kept });
  state.applyAll([...ground, ...extra], Date.now());
  return state;
}

export function openTransport(server: NatsServer, name: string): Transport {
  return openNats({
    servers: [server.url],
    name,
    inboxPrefix: SUBJECTS.inbox(name),
    clock: systemClock,
    random: Math.random,
  });
}

export function connected(transport: Transport): Promise<void> {
  return new Promise((resolve) => {
    if (transport.state.phase === "connected") resolve();
    transport.onState(({ phase }) => phase === "connected" && resolve());
  });
}

export function openVoice(name: string): Voice {
  let epoch = Date.now() % 1_000_000;
  const store = {
    read: () => epoch,
    write(value: number) {
      epoch = value;
    },
  };
  return new Voice({ trustDomain: DOMAIN, signer: voice(name), store });
}

export function openGate(state: FleetState, node: string): Gate {
  const place = { trustDomain: DOMAIN, subjects: SUBJECTS, node, startedAt: Date.now() - 1000 };
  return new Gate({ ...place, authorOf: (key) => authorOf(state, key) });
}

/** A voice in the midst of its life: it says nothing at once, and then waits any part of its interval, as in a fleet whose nodes did not start together. */
export function inTheMidst(): { readonly random: () => number; readonly isMember: () => boolean } {
  let hasDrawn = false;
  return {
    random() {
      const drawn = Math.random();
      const isFirst = !hasDrawn;
      hasDrawn = true;
      return isFirst ? 2 * drawn - 1.5 : drawn; // OwnVoice waits 0.75 of the interval and half as much again as this
    },
    // What it says of itself when it starts comes before its first wait.
    isMember: () => hasDrawn,
  };
}

const QUIET: Log = { error() {}, warn() {}, info() {}, debug() {} };

/** A node as the daemon has it, without a disk and a module: hears, judges, spreads, compares, speaks of itself. */
export class SimulatedNode {
  readonly transport: Transport;
  readonly state: FleetState;
  readonly rounds: AntiEntropy;
  readonly #name: string;
  readonly #wire: Wire;
  readonly #own: OwnVoice;
  readonly #midst = inTheMidst();
  /** Told of each statement that came over the wire and was new. */
  onTaken: (statement: Statement) => void = () => undefined;

  constructor(server: NatsServer, name: string, about: { readonly state: FleetState; peers(): readonly string[] }) {
    const { state } = about;
    this.#name = name;
    this.state = state;
    this.transport = openTransport(server, name);
    this.#wire = new Wire({
      ...{ transport: this.transport, gate: openGate(state, name), voice: openVoice(name), subjects: SUBJECTS },
      ...{ node: name, clock: systemClock, log: QUIET },
      isMember: () => true,
      nodeOf: (key) => authorOf(state, key)?.node,
      onBroadcast: ({ type, payload }) => {
        const message = parseMessage(type, payload);
        if (message.type === "statements") this.#take(message.statements);
      },
      onAsk: (said) => this.rounds.answer(said),
      onGap: () => this.rounds.soon(),
      onRecovered: () => undefined,
      whyRevoked: () => [],
      onRevoked: () => undefined,
    });
    this.rounds = new AntiEntropy({
      ...{ state, wire: this.#wire, clock: systemClock, log: QUIET, random: Math.random, peers: about.peers },
      take: (statements) => {
        const fresh = this.#take(statements);
        this.spread(worthSpreading(fresh));
        return fresh.length;
      },
    });
    this.#own = new OwnVoice({
      ...{ nodeName: name, clock: systemClock, random: this.#midst.random, state },
      word: { addresses: () => ["10.0.0.1"], endpoints: () => [], jwtKeys: () => [] },
      say: (draft) => this.say(draft),
      onFault: () => undefined,
    });
    this.transport.onState(({ phase }) => {
      if (phase === "connected") this.rounds.soon();
    });
  }

  /** A word of its own, to all. */
  say(draft: Omit<StatementDraft, "trustDomain" | "revision">): Statement {
    const statement = signStatement(this.state.draft(draft, ""), voice(this.#name));
    this.#take([statement]);
    this.spread([statement]);
    return statement;
  }

  spread(statements: readonly Statement[]): void {
    for (const batch of batchStatements(statements)) this.#wire.broadcast(batch.type, writeMessage(batch));
  }

  /** Compares, and speaks of itself, as often as a daemon does. */
  async run(signal: AbortSignal): Promise<void> {
    const { isMember } = this.#midst;
    await Promise.all([this.rounds.run(signal), this.#own.run(signal, { hasBroker: true, isMember })]);
  }

  #take(statements: readonly Statement[]): Statement[] {
    const results = this.state.applyAll(statements, Date.now());
    const fresh = results.flatMap(({ statement, outcome }) => (outcome.outcome === "accepted" ? [statement] : []));
    for (const statement of fresh) this.onTaken(statement);
    return fresh;
  }
}
