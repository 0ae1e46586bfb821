// What the control API needs of the fleet, and the JSON that it shows. Made of the fleet and its admitter; decides nothing.

import type { Clock } from "../../clock.ts";
import { RiprapError } from "../../error.ts";
import { writeBody } from "../../federation/body.ts";
import type { Signer } from "../../federation/curve.ts";
import { type NatsConfigInput, natsConfig } from "../../federation/nats_config.ts";
import { keepOf, listRevocations, revocationOf } from "../../federation/roster.ts";
import { parseStatement } from "../../federation/statement.ts";
import { fingerprintOf } from "../../federation/succession.ts";
import {
  type Admission,
  type FleetGeneration,
  type FleetNode,
  type Keep,
  type RevocationTarget,
  writeTarget,
} from "../../fleet.ts";
import type { Resource } from "../../resource.ts";
import type { ResourceSource } from "../rule/keeper.ts";
import type { PendingNode } from "./admitter.ts";
import type { FleetEvent } from "./event.ts";
import type { FleetRoom } from "./open.ts";
import { refusedWarning } from "./refusal.ts";

export interface FleetStatusView {
  readonly node: string;
  readonly trustDomain: string;
  /** `alone`: in no fleet; `displaced`: its name in the roster is not its own any more; `offline`: no broker; `connected`. */
  readonly state: "alone" | "displaced" | "revoked" | "offline" | "connected";
  readonly reason?: string;
  readonly server?: string;
  readonly servers: readonly string[];
  /** Of the fleet's resources, as this node knows them. */
  readonly generation: FleetGeneration;
  readonly statements: number;
  /** Equal on two nodes: they know the same. */
  readonly root: string;
  /** When this node and another last had the same. */
  readonly agreedAt?: string;
  readonly lagMs: number;
  readonly counters: Readonly<Record<string, number>>;
  readonly nodes: readonly FleetNodeView[];
  /** Of the trust domain, where there was ever more than one: SHA-256 and whether it may speak. */
  readonly roots: readonly { readonly fingerprint: string; readonly state: string }[];
  readonly revocations: readonly { readonly target: string; readonly reason: string; readonly statement: string }[];
  readonly warnings: readonly string[];
}

export interface FleetNodeView {
  readonly name: string;
  readonly state: FleetNode["state"];
  readonly group: string;
  readonly isIssuer: boolean;
  readonly idPrefixes: readonly string[];
  readonly authorities: readonly string[];
  readonly admittedBy: string;
  readonly admittedAt: string;
  readonly lastSeen?: string;
  readonly addresses: readonly string[];
  readonly version?: string;
  readonly applied?: FleetGeneration;
  /** Has this node applied what this fleet wants now? */
  readonly isCurrent: boolean;
  readonly failure?: string;
}

export interface TokenRequest {
  readonly admission: Admission;
  readonly lifetimeMs: number;
  readonly servers?: readonly string[];
  readonly credentials?: string;
}

/** A token once, as it is made. */
export interface NewTokenView extends TokenView {
  readonly token: string;
  readonly lacksBrokerCa: boolean;
}

export interface TokenView {
  readonly id: string;
  readonly state: string;
  readonly node?: string;
  readonly group: string;
  readonly idPrefixes: readonly string[];
  readonly needsApproval: boolean;
  readonly createdAt: string;
  readonly expiresAt: string;
}

export interface ResourceDraftView {
  readonly kind: string;
  readonly name: string;
  readonly document: unknown;
  readonly revision: number;
}

export interface ConvergeView {
  readonly node: string;
  readonly taken: number;
  readonly given: number;
  readonly error?: string;
}

export interface FleetPort {
  status(): FleetStatusView;
  log(limit: number): readonly FleetEvent[];
  converge(): Promise<readonly ConvergeView[]>;
  /** Statements that a person signed, each as its octets in base64. Answers what became of each. */
  take(
    statements: readonly string[],
  ): readonly { readonly key: string; readonly taken: boolean; readonly reason?: string }[];
  /** The resources of a text, when they are good together with all that is in force here, and the revision that each would have. */
  check(source: ResourceSource): readonly ResourceDraftView[];
  /** The revision after the one that stands for this resource; throws `not_found` when none does. */
  nextRevision(kind: string, name: string): number;
  createToken(request: TokenRequest): NewTokenView;
  tokens(): readonly TokenView[];
  pending(): readonly PendingNode[];
  decide(node: string, decision: "approved" | "denied"): void;
  natsConfig(options: Omit<NatsConfigInput, "trustDomain" | "users">): string;
  /** Said by this node where it issues or signed the serial number itself, else with the operator's key of this machine. Answers the statement's hash. */
  revoke(target: RevocationTarget, reason: string, options?: { readonly keep?: Keep }): string;
  /** Asks issuing nodes for this node's next intermediate now. Throws RiprapError `renewal_refused`. */
  renew(): Promise<{ readonly notAfter: string }>;
}

export interface PortPlace {
  readonly clock: Clock;
  readonly nodeName: string;
  check(source: ResourceSource): readonly Resource[];
}

export function createFleetPort(room: FleetRoom, place: PortPlace): FleetPort {
  const { fleet, admitter, renewer } = room;
  const tokenViews = () => admitter.list().map(tokenView);
  return {
    status: () => statusView(room, place.nodeName),
    log: (limit) => fleet.journal.events(limit),
    converge: () => fleet.converge(),
    take: (texts) =>
      texts.map((text) => {
        const statement = parseStatement(Uint8Array.from(Buffer.from(text, "base64")));
        return fleet.takeOne(statement, "a person on this node");
      }),
    check: (source) =>
      place.check(source).map(({ kind, name, document }) => {
        const revision = (fleet.state.get("resource", `${kind}/${name}`)?.revision ?? 0) + 1;
        return { kind, name, document, revision };
      }),
    nextRevision(kind, name) {
      const held = fleet.state.get("resource", `${kind}/${name}`);
      if (held !== undefined && !held.isDeleted) return held.revision + 1;
      throw new RiprapError(
        "not_found",
        `Cannot delete ${kind}/${name}: the fleet has no such resource; see riprap get`,
      );
    },
    createToken(request) {
      const made = admitter.create({ ...request, createdBy: "a person on this node" });
      return { ...tokenView(made.record), token: made.text, lacksBrokerCa: made.lacksBrokerCa };
    },
    tokens: tokenViews,
    pending: () => admitter.pending(),
    decide: (node, decision) => admitter.decide(node, decision, "a person on this node"),
    natsConfig: (options) => {
      const users = fleet.nodes().flatMap(({ name, state, isIssuer }) => {
        const nkey = fleet.state.standing.grantOf("node", name)?.body.nkey;
        return state === "active" && nkey !== undefined ? [{ node: name, nkey, isIssuer }] : [];
      });
      if (users.length > 0) return natsConfig({ trustDomain: fleet.state.trustDomain, users, ...options });
      const remedy = "set natsServers in the configuration and start the daemon again";
      throw new RiprapError("not_ready", `Cannot write the NATS configuration: no node has an nkey yet; ${remedy}`);
    },
    revoke(target, reason, { keep: stays } = {}) {
      const signer = revokerOf(room, target);
      // In a set it is revoked for as long as it lives.
      const inSet = target.type === "serial" ? fleet.state.standing.setsWith(target)[0] : undefined;
      if (inSet !== undefined) return inSet.statement.hash;
      const keep = keepOf(fleet.state, target, stays);
      const body = writeBody("revocation", { reason: reason.slice(0, 250), keep });
      const expiresAt = target.type === "serial" ? room.endOf(target) : undefined;
      const draft = { kind: "revocation", name: writeTarget(target), time: place.clock.now(), body } as const;
      const { hash } = fleet.say({ ...draft, expiresAt: expiresAt ?? 0 }, signer);
      if (target.type === "serial") room.sets.soon();
      return hash;
    },
    async renew() {
      if (await renewer.renew()) return { notAfter: new Date(renewer.notAfter).toISOString() };
      const { fault } = renewer;
      throw new RiprapError("renewal_refused", `Cannot renew the intermediate: no issuing node signed one (${fault})`);
    },
  };
}

type Fleet = FleetRoom["fleet"];

/** Who can say it on this machine; whether he may, the fleet judges. Throws RiprapError `not_issuer`. */
function revokerOf({ fleet, admitter, operator }: FleetRoom, target: RevocationTarget): Signer {
  const isOwn = target.type === "serial" && fleet.self?.authorities.includes(target.authority) === true;
  const signer = isOwn || admitter.isIssuer ? fleet.signer : operator();
  if (signer !== undefined) return signer;
  const fact = "this node does not issue, and this machine has no operator's key";
  const remedy = "do it on an issuing node, which riprap fleet nodes shows";
  throw new RiprapError("not_issuer", `Cannot revoke ${writeTarget(target)} for the fleet: ${fact}; ${remedy}`);
}

function statusView({ fleet, servers, isRootEnding, isUnnamed }: FleetRoom, nodeName: string): FleetStatusView {
  const { self, transport, wire, antiEntropy } = fleet;
  const state = transport?.state;
  const phase = phaseOf(fleet);
  const reason = reasonOf(fleet, phase);
  const generation = fleet.state.generation();
  const { agreedAt } = antiEntropy;
  const clockFault = wire?.clockFault;
  return {
    node: nodeName,
    trustDomain: fleet.state.trustDomain,
    state: phase,
    ...(reason === undefined ? {} : { reason }),
    ...(state?.phase === "connected" ? { server: state.server } : {}),
    servers,
    generation,
    statements: fleet.state.size,
    root: fleet.state.root(),
    ...(agreedAt === 0 ? {} : { agreedAt: new Date(agreedAt).toISOString() }),
    lagMs: wire?.counters.lagMs ?? 0,
    counters: countersOf(fleet),
    nodes: fleet.nodes().map((node) => nodeView(node, generation)),
    roots: (fleet.state.roots ?? []).map((entry) => ({ fingerprint: fingerprintOf(entry), state: entry.state })),
    revocations: listRevocations(fleet.state).map(({ reason: why, statement }) => ({
      target: statement.name,
      reason: why,
      statement: statement.hash,
    })),
    warnings: [
      ...(clockFault === undefined ? [] : [clockFault]),
      ...(transport?.refused ?? []).map(refusedWarning),
      ...(isRootEnding() ? [rootWarning(self?.isIssuer === true)] : []),
      ...(isUnnamed() ? [UNNAMED_WARNING] : []),
    ],
  };
}

function phaseOf({ self, displacement, transport }: Fleet): FleetStatusView["state"] {
  if (self === undefined) return displacement === undefined ? "alone" : "displaced";
  if (self.state === "revoked") return "revoked";
  return transport?.state.phase === "connected" ? "connected" : "offline";
}

const UNNAMED_WARNING =
  "The roster does not name the authority that this node signs with, so that other nodes refuse its identities: as a rule an issuing node with an old state has signed it. This node asks for another within minutes; riprap fleet renew does so now.";

function rootWarning(isIssuer: boolean): string {
  const remedy = isIssuer
    ? "it signs for no other node: ask for another CA with riprap root request --issuing"
    : "it asks issuing nodes for another; riprap fleet renew does so now";
  return `The root above this node's intermediate has retired, and ${remedy}.`;
}

function reasonOf({ transport, self, displacement }: Fleet, phase: FleetStatusView["state"]): string | undefined {
  if (phase === "alone")
    return "This node is in no fleet's roster: join with riprap join, or found one with riprap init.";
  if (phase === "displaced") return displacement;
  if (phase === "revoked") {
    const fact = `This node is revoked (statement ${self?.statement.slice(0, 16)}): no other node hears it, and it signs nothing more.`;
    return `${fact} That is never taken back: to use this machine again, stop the daemon, move its state directory away, and join under another name.`;
  }
  if (phase === "connected") return undefined;
  const state = transport?.state;
  if (state === undefined) return "No NATS server is configured (natsServers).";
  return state.phase === "connecting" ? `Not connected: ${state.reason}.` : "The daemon is stopping.";
}

function nodeView(node: FleetNode, generation: FleetGeneration): FleetNodeView {
  const { presence } = node;
  return {
    name: node.name,
    state: node.state,
    group: node.group,
    isIssuer: node.isIssuer,
    idPrefixes: node.idPrefixes,
    authorities: node.authorities,
    admittedBy: node.admittedBy,
    admittedAt: new Date(node.admittedAt).toISOString(),
    addresses: presence?.addresses ?? [],
    isCurrent: presence?.applied?.digest === generation.digest,
    ...(presence === undefined ? {} : { lastSeen: new Date(presence.saidAt).toISOString(), version: presence.version }),
    ...(presence?.applied === undefined ? {} : { applied: presence.applied }),
    ...(presence?.failure === undefined ? {} : { failure: presence.failure }),
  };
}

function tokenView({
  id,
  admission,
  createdAt,
  expiresAt,
  use,
}: ReturnType<FleetRoom["admitter"]["list"]>[number]): TokenView {
  const node = use.state === "unused" ? admission.nodeName : use.bearer.nodeName;
  const { group, idPrefixes, needsApproval } = admission;
  return {
    id,
    state: use.state,
    ...(node === undefined ? {} : { node }),
    ...{ group, idPrefixes, needsApproval },
    createdAt: new Date(createdAt).toISOString(),
    expiresAt: new Date(expiresAt).toISOString(),
  };
}

function countersOf(fleet: Fleet): Readonly<Record<string, number>> {
  const { accepted, missed, refused } = fleet.gate.counts();
  const { sent, unsent, answered, told } = fleet.wire?.counters ?? { sent: 0, unsent: 0, answered: 0, told: 0 };
  const refusedMessages = Object.values(refused).reduce((sum, count) => sum + count, 0);
  const { taken, refused: refusedStatements, stale } = fleet.counters;
  const { conflicts } = fleet;
  const { rounds, failed } = fleet.antiEntropy.counters;
  return {
    ...{
      messagesSent: sent,
      messagesUnsent: unsent,
      messagesAccepted: accepted,
      messagesMissed: missed,
      messagesRefused: refusedMessages,
    },
    ...{ questionsAnswered: answered, noticesSent: told, statementsTaken: taken, statementsRefused: refusedStatements },
    ...{ statementsStale: stale, conflicts, comparisons: rounds, comparisonsFailed: failed },
  };
}

/** For `riprap revoke`: says it to the fleet, and answers a sentence about that. Undefined: there is no fleet. */
export async function announceRevocation(
  { fleet }: Pick<FleetRoom, "fleet">,
  port: Pick<FleetPort, "revoke">,
  said: { target: RevocationTarget; reason: string; keep?: Keep },
): Promise<string | undefined> {
  const nodes = fleet.nodes().length;
  const isDisplaced = fleet.displacement !== undefined;
  if (!isDisplaced && (fleet.self === undefined || nodes === 0)) return undefined;
  try {
    const statement = port.revoke(said.target, said.reason, said);
    const reach = isDisplaced
      ? "kept here, where no other node hears it (see riprap fleet status): say it on another node too"
      : fleet.transport?.state.phase === "connected"
        ? `said to the fleet of ${nodes}`
        : "kept for the fleet, which is not connected now";
    return `${reach}, statement ${statement}`;
  } catch (thrown) {
    // What is revoked here is revoked; of what only the fleet can revoke nothing happened.
    const isLocal = ["serial", "id", "authority"].includes(said.target.type);
    if (!isLocal || !(thrown instanceof RiprapError)) throw thrown;
    return `NOT said to the fleet: ${thrown.message}`;
  }
}

/** Hash of the statement that a target is revoked by, in the whole fleet; undefined when it is not. */
export function standingRevocation({ fleet }: Pick<FleetRoom, "fleet">, target: RevocationTarget): string | undefined {
  return revocationOf(fleet.state, target)?.statement.hash;
}
