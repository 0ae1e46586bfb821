// This node in its fleet: keeps what stands, says what is its own, and tells the other rooms what changed. Goes on without a broker and without a peer.

import { authorityIdOf, publicKeysOf } from "../ca.ts";
import { describeError, RiprapError } from "../error.ts";
import type { Signer } from "../federation/curve.ts";
import { FleetState } from "../federation/fleet_state.ts";
import { openEpochStore, openStatementStore } from "../federation/fleet_store.ts";
import { Gate } from "../federation/gate.ts";
import { batchStatements, parseMessage, writeMessage } from "../federation/message.ts";
import { listNodeKeys } from "../federation/node_bundle.ts";
import type { Change } from "../federation/outcome.ts";
import { authorOf, type IssuedPath, listNodes, type MayIssue, whyRevoked } from "../federation/roster.ts";
import type { Statement, StatementDraft } from "../federation/statement.ts";
import { isSuccession } from "../federation/statement.ts";
import { type FleetSubjects, fleetSubjects } from "../federation/subject.ts";
import type { Transport } from "../federation/transport.ts";
import { Voice } from "../federation/voice.ts";
import type { FleetNode } from "../fleet.ts";
import type { ResourceText } from "../resource.ts";
import type { JwtKey } from "../trust_bundle.ts";
import { AntiEntropy } from "./fleet/anti_entropy.ts";
import { Applier } from "./fleet/applier.ts";
import { Chronicle } from "./fleet/chronicle.ts";
import { type FleetJournal, openFleetJournal } from "./fleet/event.ts";
import { MeetingPoint } from "./fleet/meeting_point.ts";
import { authorityDraft, openFleetKey, signDraft } from "./fleet/member.ts";
import { Membership } from "./fleet/membership.ts";
import { OwnVoice } from "./fleet/own_voice.ts";
import type { FleetParts } from "./fleet/part.ts";
import {
  isFirstIssuer,
  peersToAsk,
  revokedExecutables,
  textsFor,
  workloadAddresses,
  worthSpreading,
} from "./fleet/reading.ts";
import { RosterKeeper } from "./fleet/roster_keeper.ts";
import { openFleetSetting } from "./fleet/setting.ts";
import { type Reply, type Said, Wire } from "./fleet/wire.ts";
import { asStateFault } from "./state_fault.ts";

export class Fleet {
  readonly state: FleetState;
  readonly subjects: FleetSubjects;
  readonly journal: FleetJournal;
  readonly signer: Signer;
  readonly antiEntropy: AntiEntropy;
  readonly counters = { taken: 0, duplicate: 0, stale: 0, refused: 0 };
  readonly #parts: FleetParts;
  readonly #chronicle: Chronicle;
  readonly #gate: Gate;
  readonly #voice: Voice;
  readonly #own: OwnVoice;
  readonly #roster: RosterKeeper;
  readonly #membership: Membership;
  readonly #applier: Applier;
  #wire: Wire | undefined;
  #transport: Transport | undefined;
  #meeting: MeetingPoint | undefined;
  #executables: ReadonlyMap<string, string> | undefined;
  #jwtKeys: readonly JwtKey[] | undefined;

  constructor(parts: FleetParts) {
    const { store, stateDir, clock, keys, nodeName, trustDomain, bundle, log } = parts;
    this.#parts = parts;
    this.subjects = fleetSubjects(trustDomain);
    this.journal = openFleetJournal(store, clock);
    this.#chronicle = new Chronicle(this.journal, log);
    this.signer = openFleetKey(keys);
    const roots = publicKeysOf(bundle);
    this.state = new FleetState({ trustDomain, roots, store: openStatementStore(store) });
    this.#membership = new Membership({
      ...{ state: this.state, nodeName, signer: this.signer, setting: openFleetSetting(store), log },
    });
    this.#roster = new RosterKeeper({
      ...{ state: this.state, stateDir, store, keys, signer: this.signer, clock, log },
      self: () => this.#asFirst(),
      onChanges: (changes, areOwn) => {
        if (areOwn) this.#spread(changes.map(({ statement }) => statement));
        this.#follow(changes, nodeName);
      },
    });
    this.#roster.start();
    this.#membership.note();
    // One that was heard of just before the end may not be in the bundle yet.
    if (this.state.roots !== undefined) parts.hooks.rootsChanged(this.state.roots);
    const place = { trustDomain, subjects: this.subjects, node: nodeName, startedAt: clock.now() };
    this.#gate = new Gate({ ...place, authorOf: (key) => authorOf(this.state, key) });
    this.#voice = new Voice({ trustDomain, signer: this.signer, store: openEpochStore(store) });
    this.#own = new OwnVoice({
      nodeName,
      clock,
      random: parts.random,
      state: this.state,
      word: parts.hooks,
      say: (draft) => this.say(draft),
      onFault: (thrown) => log.warn("this node could not speak of itself", { error: describeError(thrown) }),
    });
    this.#applier = new Applier({
      generation: () => this.state.generation(),
      apply: () => parts.hooks.applyResources(),
      onApplied: (generation, failure) => this.#own.applied(generation, failure),
    });
    this.antiEntropy = new AntiEntropy({
      state: this.state,
      wire: { ask: (node, question, timeoutMs) => this.ask(node, question, timeoutMs) },
      clock,
      log,
      random: parts.random,
      peers: () => this.#peers(),
      take: (statements, from) => this.take(statements, from),
    });
  }

  /** Of this node, when the roster has it under its own key. */
  get self(): FleetNode | undefined {
    return this.#membership.self;
  }

  /** Why no other node hears this one, and what to do; undefined while it is a member, and where there is no fleet. */
  get displacement(): string | undefined {
    return this.#membership.displacement;
  }

  get transport(): Transport | undefined {
    return this.#transport;
  }

  get wire(): Wire | undefined {
    return this.#wire;
  }

  get gate(): Gate {
    return this.#gate;
  }

  get conflicts(): number {
    return this.#chronicle.conflicts;
  }

  /** Does this node say the trust domain's bundle to others? */
  isSpeaker(): boolean {
    return this.self !== undefined && isFirstIssuer(this.nodes(), this.self.name, this.#peers());
  }

  nodes(): readonly FleetNode[] {
    return listNodes(this.state);
  }

  /** The groups that this node is in; none before it is in a fleet. */
  groups(): ReadonlySet<string> {
    return this.#membership.place?.groups ?? new Set();
  }

  /** What the fleet says for this node, a text for each resource. */
  texts(): readonly ResourceText[] {
    return textsFor(this.state, this.#membership.place);
  }

  /** SPIFFE ID to the addresses where a node says it is. */
  addresses(): ReadonlyMap<string, readonly string[]> {
    return workloadAddresses(this.state);
  }

  /** SHA-256 of each executable whose processes may have no identity, with the reason. */
  revokedExecutables(): ReadonlyMap<string, string> {
    this.#executables ??= revokedExecutables(this.state);
    return this.#executables;
  }

  /** The keys under which the other nodes sign JWT-SVIDs: the same list until the fleet says something new. */
  jwtKeys(): readonly JwtKey[] {
    // Its own it has from itself; of who has its name now they are another's.
    const except = this.self?.name ?? "";
    this.#jwtKeys ??= listNodeKeys(this.state, { trustDomain: this.#parts.trustDomain, except });
    return this.#jwtKeys;
  }

  /** As Membership.judgePath. */
  judgePath(path: IssuedPath): MayIssue {
    return this.#membership.judgePath(path);
  }

  /** Signs a word of this node's own, or of who has the key, takes it and spreads it. Throws RiprapError `fleet_refused`, `fleet_displaced`. */
  say(draft: Omit<StatementDraft, "trustDomain" | "revision">, signer = this.signer): Statement {
    if (signer === this.signer) this.#requireVoice("speak to the fleet");
    const statement = signDraft(this.state, draft, signer);
    const { taken, reason } = this.takeOne(statement, this.#parts.nodeName);
    if (taken) return statement;
    throw new RiprapError("fleet_refused", `Cannot say ${statement.key} to the fleet: ${reason}`);
  }

  /** One that begins here: of this node's own, or of a person's. */
  takeOne(statement: Statement, from: string): { key: string; taken: boolean; reason?: string } {
    const outcome = this.#takeAll([statement], from, "own")[0]?.outcome;
    const { key } = statement;
    if (outcome?.outcome === "accepted" || outcome?.outcome === "duplicate") return { key, taken: true };
    const reason =
      outcome === undefined
        ? "this node cannot keep it; see its log"
        : outcome.outcome === "refused"
          ? outcome.message
          : "a later word stands";
    return { key, taken: false, reason };
  }

  /** Judges and keeps what came by comparison; answers how many were new. */
  take(statements: readonly Statement[], from: string): number {
    return this.#takeAll(statements, from, "comparison").filter(({ outcome }) => outcome.outcome === "accepted").length;
  }

  #takeAll(statements: readonly Statement[], from: string, way: "own" | "broadcast" | "comparison") {
    const { clock, log } = this.#parts;
    const results = this.#apply(statements, clock.now());
    const fresh = results.flatMap(({ statement, outcome }) => (outcome.outcome === "accepted" ? [statement] : []));
    for (const { statement, outcome } of results) {
      if (outcome.outcome === "accepted") continue;
      this.counters[outcome.outcome] += 1;
      if (outcome.outcome === "stale" && outcome.conflict !== undefined)
        this.#chronicle.conflict(outcome.conflict.winner, outcome.conflict.loser);
      if (outcome.outcome !== "refused") continue;
      this.#chronicle.refused(statement, { from, code: outcome.code, reason: outcome.message });
      log.debug("a statement was refused", { key: statement.key, from, code: outcome.code, reason: outcome.message });
    }
    this.counters.taken += fresh.length;
    if (way !== "broadcast") this.#spread(way === "own" ? fresh : worthSpreading(fresh));
    if (way === "own") this.#meeting?.keep(fresh);
    const changes = results.flatMap(({ outcome }) => (outcome.outcome === "accepted" ? outcome.changes : []));
    if (changes.length > 0) this.#follow(changes, from);
    return results;
  }

  #apply(statements: readonly Statement[], now: number): ReturnType<FleetState["applyAll"]> {
    try {
      return this.state.applyAll(statements, now);
    } catch (thrown) {
      this.#parts.log.error("the fleet's word could not be kept; of it only revocations are in force", {
        error: describeError(asStateFault(thrown, "keep what the fleet says")),
      });
      return this.state.applyUnkept(statements, now);
    }
  }

  /** Asks one node. Throws what Wire.ask throws, `nats_not_connected` or `fleet_displaced`. */
  async ask(node: string, question: Reply, timeoutMs: number): Promise<Said> {
    this.#requireVoice("ask another node");
    if (this.#wire !== undefined) return this.#wire.ask(node, question, timeoutMs);
    throw new RiprapError("nats_not_connected", "Cannot ask another node: this one has no NATS server configured");
  }

  /** On an issuing node: its own entry names the authority that it signs with now, before anyone has to verify what that signed. */
  refreshOwn(): void {
    this.#roster.look();
  }

  /** On an issuing node: the roster's entry of a node names this authority before those that it had. */
  nameAuthority(node: string, authorityKey: Uint8Array): void {
    const draft = authorityDraft(this.state, this.#parts.clock, { node, authorityKey });
    if (draft !== undefined) this.say(draft);
  }

  /** Compares with every node that answers. Throws RiprapError `fleet_displaced`. */
  async converge(): Promise<readonly { node: string; taken: number; given: number; error?: string }[]> {
    this.#requireVoice("compare with other nodes");
    return Promise.all(
      this.#peers().map(async (node) => {
        const result = await this.antiEntropy.round([node]);
        return result ?? { node, taken: 0, given: 0, error: "it did not answer" };
      }),
    );
  }

  /** The resources are in force as they stand; says so to the fleet. At start, and whenever they change. */
  async applyResources(): Promise<void> {
    await this.#applier.apply();
  }

  /** Until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { log, openTransport } = this.#parts;
    const loops: Promise<void>[] = [
      this.#roster.run(signal),
      this.#own.run(signal, { hasBroker: openTransport !== undefined, isMember: () => this.self?.state === "active" }),
    ];
    // A displaced node speaks no more, and hears what is revoked.
    const { hasFleet } = this.#membership;
    if (!hasFleet) log.info("this node is in no fleet's roster: it stands alone", {});
    if (openTransport !== undefined && hasFleet) {
      this.#transport = await openTransport();
      this.#connect(this.#transport, signal);
      this.#parts.onTransport?.(this.#transport);
      loops.push(this.antiEntropy.run(signal), this.#parts.run?.(signal) ?? Promise.resolve());
    }
    signal.addEventListener("abort", () => void this.#transport?.close(), { once: true });
    if (signal.aborted) void this.#transport?.close();
    await Promise.allSettled(loops);
  }

  #connect(transport: Transport, signal: AbortSignal): void {
    const { clock, log, nodeName } = this.#parts;
    this.#wire = new Wire({
      transport,
      gate: this.#gate,
      voice: this.#voice,
      subjects: this.subjects,
      node: nodeName,
      clock,
      log,
      nodeOf: (key) => authorOf(this.state, key)?.node,
      isMember: () => this.self !== undefined,
      onBroadcast: (said) => this.#hear(said),
      onAsk: async (said) => this.antiEntropy.answer(said) ?? (await this.#parts.answer?.(said)),
      onGap: () => this.antiEntropy.soon(),
      onRecovered: () => {
        this.journal.record("recovered", nodeName, "this node's state was older than what it had said");
        this.antiEntropy.soon();
        this.#own.soon();
      },
      whyRevoked: (node) => whyRevoked(this.state, node),
      onRevoked: (statements, node) => void this.take(statements, node),
    });
    this.#meeting = new MeetingPoint({
      transport,
      name: this.subjects.store,
      state: this.state,
      ...{ clock, log },
      take: (statements) => this.take(statements, "the broker's store"),
      onUnreadable: () => {
        this.counters.refused += 1;
      },
    });
    transport.onState((state) => {
      if (state.phase === "connected") {
        log.info("connected to the fleet's broker", { server: state.server });
        this.antiEntropy.soon();
        this.#own.soon();
        if (state.hasStore) void this.#meeting?.visit(signal);
      } else if (state.phase === "connecting")
        log.warn("not connected to the fleet's broker", { reason: state.reason });
    });
  }

  #hear({ node, type, payload }: Said): void {
    try {
      const message = parseMessage(type, payload);
      if (message.type === "statements") this.#takeAll(message.statements, node, "broadcast");
    } catch (thrown) {
      this.#gate.countUnreadable();
      this.#parts.log.debug("a fleet message could not be read", { node, type, error: describeError(thrown) });
    }
  }

  #spread(statements: readonly Statement[]): void {
    for (const batch of batchStatements(statements)) this.#wire?.broadcast(batch.type, writeMessage(batch));
  }

  /** What follows from changes, in the other rooms. */
  #follow(changes: readonly Change[], from: string): void {
    const { hooks, log } = this.#parts;
    const kinds = new Set(changes.map(({ statement }) => statement.kind));
    if (kinds.has("revocation")) this.#executables = undefined;
    this.#jwtKeys = undefined;
    if (kinds.has("node")) this.#membership.note();
    // Before anything that a new root has signed is judged.
    if (changes.some(({ statement }) => isSuccession(statement))) hooks.rootsChanged(this.state.roots ?? []);
    for (const change of changes) this.#chronicle.record(change, from);
    const revoked = changes.flatMap(({ type, statement }) =>
      type === "put" && statement.kind === "revocation" ? [statement] : [],
    );
    if (["revocation", "node", "issuer", "operator"].some((kind) => kinds.has(kind as Statement["kind"])))
      hooks.trustChanged(revoked, this.self?.authorities ?? [authorityIdOf(this.#parts.authorityKey())]);
    if (kinds.has("endpoint")) hooks.endpointsChanged();
    if (kinds.has("bundle") || kinds.has("node")) hooks.keysChanged();
    if (
      kinds.has("resource") ||
      (kinds.has("node") && changes.some(({ statement }) => statement.name === this.#parts.nodeName))
    )
      this.applyResources().catch((thrown: unknown) =>
        log.error("the fleet's resources could not be applied", { error: describeError(thrown) }),
      );
  }

  #peers(): readonly string[] {
    const { clock, nodeName } = this.#parts;
    const nodes = this.self === undefined ? [] : this.nodes();
    return peersToAsk(nodes, { nodeName, heardSince: clock.now() - 3 * this.#own.intervalMs(nodes.length) });
  }

  #requireVoice(what: string): void {
    const { displacement } = this;
    if (displacement !== undefined) throw new RiprapError("fleet_displaced", `Cannot ${what}: ${displacement}`);
  }

  #asFirst() {
    const { nodeName, idPrefixes, authorityKey, nkey } = this.#parts;
    return { nodeName, idPrefixes, authorityKey: authorityKey(), nkey, signer: this.signer };
  }
}
