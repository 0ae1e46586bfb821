// The fleet as a person and a peer's chain check see it: nodes, what each may issue, what is revoked, where workloads are. Reads what stands; changes nothing.

import { isWithinPrefixes } from "../enrolment.ts";
import { RiprapError } from "../error.ts";
import type {
  FleetEndpoint,
  FleetNode,
  FleetScope,
  Keep,
  NodePresence,
  RevocationTarget,
  SerialSetTarget,
} from "../fleet.ts";
import { tryParseScope, tryParseSerialSetName, tryParseTarget, writeTarget } from "../fleet.ts";
import type { SerialSet } from "../serial_set.ts";
import { KEEP_MAX, parseBody, type RevocationBody } from "./body.ts";
import { keyHex, keyIdOf } from "./curve.ts";
import type { FleetState } from "./fleet_state.ts";
import type { AuthorStanding } from "./gate.ts";
import { readSerialSet } from "./serial_set.ts";
import type { Grant } from "./standing.ts";
import type { Statement } from "./statement.ts";

/** A key has one role by one name; a person may have given it two. */
const GRANTS_TOLD_MAX = 4;

export type RosterState = Pick<FleetState, "standing" | "get" | "list" | "rootRecords">;

/** The node of this name, revoked or not. */
export function findNode(state: RosterState, name: string): FleetNode | undefined {
  const grant = state.standing.grantOf("node", name);
  return grant === undefined ? undefined : describeNode(state, grant);
}

/** Every node, by name. */
export function listNodes(state: RosterState): readonly FleetNode[] {
  const nodes = [...state.standing.grants("node")].map((grant) => describeNode(state, grant));
  return nodes.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Who a fleet key is of, for the gate. */
export function authorOf(state: RosterState, key: Uint8Array): AuthorStanding {
  const grants = state.standing.grantsOfKey("node", keyHex(key));
  const [first] = grants;
  if (first === undefined) return undefined;
  const revoked = grants.find(({ name }) => state.standing.revocationsOf(`node:${name}`).length > 0);
  if (revoked !== undefined) return { standing: "revoked", node: revoked.name };
  return { standing: "active", node: first.name, names: grants.map(({ name }) => name) };
}

/** One certificate path as it was verified, from the leaf up. */
export interface IssuedPath {
  readonly spiffeId: string;
  /** Serial number of each certificate, the leaf's first, with the key identifier of the authority that signed it. */
  readonly certificates: readonly { readonly serial: string; readonly authority: string }[];
}

export type MayIssueCode =
  | "authority_unknown"
  | "authority_revoked"
  | "node_revoked"
  | "id_outside_node"
  | "id_revoked"
  | "serial_revoked";

export type MayIssue =
  | { readonly ok: true; readonly node: string }
  /** `statement`: hash of the statement it rests on; undefined where there is none. */
  | {
      readonly ok: false;
      readonly code: MayIssueCode;
      readonly message: string;
      readonly statement: string | undefined;
    };

/**
 * Whether the path's node may issue its ID: the key that signed the leaf is of a node of the roster, that node may issue the ID, and nothing in
 * the path is revoked. The path itself was verified before. Of several entries with the key one that may is enough, so that no issuing node can keep a
 * node from its IDs by an entry of less; the end of any of them is the end of the key.
 */
export function mayIssue(state: RosterState, path: IssuedPath): MayIssue {
  const refuse = (code: MayIssueCode, fact: string, statement?: string): MayIssue => {
    return { ok: false, code, message: `Cannot accept the peer's certificate chain: ${fact}`, statement };
  };
  const revocation = revocationOfPath(state, path);
  if (revocation !== undefined) return refuse(revocation.code, revocation.fact, revocation.statement);
  const [leaf] = path.certificates;
  const owners = state.standing.nodesOfAuthority(leaf?.authority ?? "");
  const [first] = owners;
  if (first === undefined) {
    return refuse("authority_unknown", `no node of the roster has the authority ${leaf?.authority ?? "(none)"}`);
  }
  for (const { name } of owners) {
    const [revoked] = state.standing.revocationsOf(`node:${name}`);
    if (revoked === undefined) continue;
    return refuse("node_revoked", `the node ${name} is revoked: ${revoked.body.reason}`, revoked.statement.hash);
  }
  const owner = owners.find(({ body }) => isWithinPrefixes(path.spiffeId, body.idPrefixes));
  if (owner !== undefined) return { ok: true, node: owner.name };
  const fact = `the node ${first.name} may issue ${first.body.idPrefixes.join(", ")}, and not ${path.spiffeId}`;
  return refuse("id_outside_node", fact, first.statement.hash);
}

/** The revocation that a target rests under, the first by hash, a single one before a set; undefined when it is not revoked. */
export function revocationOf(state: RosterState, target: RevocationTarget): Revoked | undefined {
  const [found] = state.standing.revocationsOf(writeTarget(target));
  if (found !== undefined) return { target, reason: found.body.reason, statement: found.statement };
  const [set] = target.type === "serial" ? state.standing.setsWith(target) : [];
  if (set === undefined) return undefined;
  return { target, reason: `one of ${describeSet(state, set.statement, set.set)}`, statement: set.statement };
}

export interface Revoked {
  readonly target: RevocationTarget | SerialSetTarget;
  readonly reason: string;
  readonly statement: Statement;
}

/** Why each serial number is revoked is in the journal of the node that signed it. */
function describeSet({ standing }: RosterState, { name }: Statement, { count }: SerialSet): string {
  const [node] = standing.nodesOfAuthority(tryParseSerialSetName(name)?.authority ?? "");
  return `${count} serial numbers that ${node?.name ?? "their own node"} has revoked`;
}

/**
 * What a revoked node is told, and all that it is told: the statement that revokes it, and what its author's right rests on, which a node that was away
 * may never have heard. It believes neither who tells it nor that.
 */
export function whyRevoked(state: RosterState, node: string): readonly Statement[] {
  const [revoked] = state.standing.revocationsOf(`node:${node}`);
  if (revoked === undefined) return [];
  const author = keyHex(revoked.statement.author);
  const grants = (["issuer", "operator"] as const).flatMap((role) => state.standing.grantsOfKey(role, author));
  return [
    ...state.rootRecords,
    ...grants.slice(0, GRANTS_TOLD_MAX).map(({ statement }) => statement),
    revoked.statement,
  ];
}

/** Everything that is revoked, as it was said. */
export function listRevocations(state: RosterState): readonly Revoked[] {
  return state.list("revocation").flatMap((statement): Revoked[] => {
    const set = tryParseSerialSetName(statement.name);
    if (set !== undefined) {
      const reason = describeSet(state, statement, readSerialSet(statement));
      return [{ target: set, reason, statement }];
    }
    const target = tryParseTarget(statement.name);
    if (target === undefined) return [];
    const { reason }: RevocationBody = parseBody("revocation", statement);
    return [{ target, reason, statement }];
  });
}

/**
 * What stands of a key whose role as operator or issuing node is revoked: of what it has said until now, by hash, all, so that rules and nodes do not
 * fall with the person who set them, or less. Empty for any other target. Throws RiprapError `revocation_too_much` beyond what one statement can name:
 * never for `none`.
 */
export function keepOf(
  state: RosterState & Pick<FleetState, "listByAuthor">,
  target: RevocationTarget,
  keep: Keep = "all",
): readonly string[] {
  if (keep === "none") return [];
  const key = speakingKey(state, target);
  if (key === undefined) return [];
  const all = state.listByAuthor(keyIdOf(Buffer.from(key, "hex")));
  // What a node says of itself ends with it.
  const stands = target.type === "node" ? all.filter(({ kind }) => kind === "node" || kind === "revocation") : all;
  const said = keep === "all" ? stands : stands.filter(({ kind }) => kind === "revocation");
  if (said.length <= KEEP_MAX) return said.map(({ hash }) => hash.slice(0, 32));
  const less =
    keep === "all" ? "--keep revocations lets stand what it revoked alone, --keep none" : "--keep none lets stand";
  const again =
    target.type === "operator"
      ? "with riprap apply --fleet and riprap revoke"
      : "with riprap fleet renew and riprap revoke";
  const remedy = `${less} nothing; what is to stand have another ${target.type === "operator" ? "operator" : "issuing node"} say first, ${again}`;
  const fact = `${said.length} statements of its key are to stand, and one revocation names ${KEEP_MAX}`;
  throw new RiprapError("revocation_too_much", `Cannot revoke ${writeTarget(target)}: ${fact}; ${remedy}`);
}

/** Of an operator, an issuing node, or a node that is one: the key that may have set more than itself. */
function speakingKey({ standing }: RosterState, { type, value }: RevocationTarget): string | undefined {
  if (type === "operator" || type === "issuer") return standing.grantOf(type, value)?.body.key;
  const key = type === "node" ? standing.grantOf("node", value)?.body.key : undefined;
  return key !== undefined && standing.grantsOfKey("issuer", key).length > 0 ? key : undefined;
}

/** Where workloads listen, by what their nodes say; nothing of a node that is revoked. */
export function listEndpoints(state: RosterState): readonly FleetEndpoint[] {
  return state.list("endpoint").flatMap((statement) => {
    if (statement.isDeleted) return [];
    const { endpoints } = parseBody("endpoint", statement);
    return endpoints.map((endpoint) => ({ node: statement.name, ...endpoint }));
  });
}

/** Whether a scope takes in a node that is in these groups. */
export function isInScope(
  scope: FleetScope,
  node: { readonly name: string; readonly groups: ReadonlySet<string> },
): boolean {
  if (scope.type === "all") return true;
  return scope.type === "node" ? scope.name === node.name : node.groups.has(scope.name);
}

/** The resources that a node applies, by their names. */
export function resourcesFor(
  state: RosterState,
  node: { readonly name: string; readonly groups: ReadonlySet<string> },
): readonly Statement[] {
  const meant = state.list("resource").filter((statement) => {
    const scope = tryParseScope(statement.scope);
    return !statement.isDeleted && scope !== undefined && isInScope(scope, node);
  });
  return meant.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function describeNode(state: RosterState, { name, body, statement }: Grant<"node">): FleetNode {
  const [revoked] = state.standing.revocationsOf(`node:${name}`);
  return {
    name,
    state: revoked === undefined ? "active" : "revoked",
    key: body.key,
    authorities: body.authorities,
    group: body.group,
    idPrefixes: body.idPrefixes,
    isIssuer: isIssuer(state, body.key),
    admittedBy: body.admittedBy,
    admittedAt: body.admittedAt,
    presence: presenceOf(state, name),
    statement: (revoked?.statement ?? statement).hash,
  };
}

function isIssuer({ standing }: RosterState, key: string): boolean {
  const grants = standing.grantsOfKey("issuer", key);
  const isRevoked = (role: "issuer" | "node") =>
    standing.grantsOfKey(role, key).some(({ name }) => standing.revocationsOf(`${role}:${name}`).length > 0);
  return grants.length > 0 && !isRevoked("issuer") && !isRevoked("node");
}

function presenceOf(state: RosterState, name: string): NodePresence | undefined {
  const statement = state.get("presence", name);
  if (statement === undefined || statement.isDeleted) return undefined;
  const { addresses, version, applied, failure } = parseBody("presence", statement);
  return { saidAt: statement.time, addresses, version, applied, failure };
}

function revocationOfPath(state: RosterState, { spiffeId, certificates }: IssuedPath) {
  const find = (code: MayIssueCode, target: RevocationTarget) => {
    const found = revocationOf(state, target);
    if (found === undefined) return undefined;
    return { code, fact: `${writeTarget(target)} is revoked: ${found.reason}`, statement: found.statement.hash };
  };
  for (const { serial, authority } of certificates) {
    const found =
      find("serial_revoked", { type: "serial", authority, value: serial }) ??
      find("authority_revoked", { type: "authority", value: authority });
    if (found !== undefined) return found;
  }
  return find("id_revoked", { type: "id", value: spiffeId });
}
