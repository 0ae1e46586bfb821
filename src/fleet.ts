// Values of a fleet that more than one room speaks of: nodes of the roster, what can be revoked, whom a statement is for. Pure.
import { ID_PREFIXES_MAX } from "./enrolment.ts";
import { RiprapError } from "./error.ts";
import { SPIFFE_ID_MAX_BYTES, SpiffeId } from "./spiffe_id.ts";

/** What a revocation can name, and the form of its value. */
export const REVOCATION_TYPES = [
  "serial",
  "id",
  "node",
  "authority",
  "token",
  "executable",
  "operator",
  "issuer",
] as const;
export type RevocationType = (typeof REVOCATION_TYPES)[number];

/** What an operator can be let revoke: he ends no other operator, so that two of them cannot end one another, and the root alone ends an issuing node. */
export const OPERATOR_REVOCATION_TYPES = REVOCATION_TYPES.filter((type) => type !== "operator" && type !== "issuer");

/** What still stands of what a revoked operator or issuing node has said: everything, what it revoked, nothing. */
export const KEEPS = ["all", "revocations", "none"] as const;
export type Keep = (typeof KEEPS)[number];

/**
 * What is revoked. A serial number is one of an authority (its key identifier, 40 hexadecimal digits), because another authority may use the same.
 * `node` ends a node's own voice and its authority; `issuer` and `operator` end those roles of a key.
 */
export type RevocationTarget =
  | { readonly type: "serial"; readonly authority: string; readonly value: string }
  | { readonly type: Exclude<RevocationType, "serial">; readonly value: string };

/** Node and group names: DNS labels, as in enrolment. */
export const FLEET_NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** SHA-256 of a public key cut to 160 bits: how certificates name the key of an authority. */
export const AUTHORITY_ID = /^[0-9a-f]{40}$/;

const VALUES: Readonly<Record<RevocationType, RegExp>> = {
  serial: /^(?:[0-9a-f]{2}){1,20}$/,
  id: /^spiffe:\/\/./,
  node: FLEET_NAME,
  authority: AUTHORITY_ID,
  token: /^[0-9a-f]{32}$/,
  executable: /^[0-9a-f]{64}$/,
  operator: FLEET_NAME,
  issuer: FLEET_NAME,
};

/** The target as one text: `node:edge-3`, `serial:AUTHORITY:SERIAL`. Throws RiprapError `revocation_invalid`. */
export function writeTarget(target: RevocationTarget): string {
  const text =
    target.type === "serial" ? `serial:${target.authority}:${target.value}` : `${target.type}:${target.value}`;
  if (tryParseTarget(text) !== undefined) return text;
  const wanted = `its value has to match ${VALUES[target.type].source}`;
  throw new RiprapError("revocation_invalid", `Cannot revoke ${JSON.stringify(text.slice(0, 120))}: ${wanted}`);
}

export function tryParseTarget(text: string): RevocationTarget | undefined {
  const [, type, value] = /^([a-z]+):(.+)$/s.exec(text) ?? [];
  if (type === "serial" && value !== undefined) {
    const [, authority, serial] = /^([0-9a-f]{40}):([0-9a-f]+)$/.exec(value) ?? [];
    if (authority === undefined || serial === undefined || !VALUES.serial.test(serial)) return undefined;
    return { type, authority, value: serial };
  }
  const known = REVOCATION_TYPES.find((name) => name === type);
  if (known === undefined || known === "serial" || value === undefined || !VALUES[known].test(value)) return undefined;
  if (known === "id" && (value.length > SPIFFE_ID_MAX_BYTES || SpiffeId.tryParse(value) === undefined))
    return undefined;
  return { type: known, value };
}

/**
 * Many revoked serial numbers of one authority as one set (serial_set.ts), by the hash of its octets: under one name there is never another set, so
 * that no later word takes back what it says. No person names one: a node makes it of what was said before.
 */
export interface SerialSetTarget {
  readonly type: "serials";
  readonly authority: string;
  /** The first 32 hexadecimal digits of SHA-256. */
  readonly value: string;
}

export function writeSerialSetName({ authority, value }: Omit<SerialSetTarget, "type">): string {
  return `serials:${authority}:${value}`;
}

export function tryParseSerialSetName(text: string): SerialSetTarget | undefined {
  const [, authority, value] = /^serials:([0-9a-f]{40}):([0-9a-f]{32})$/.exec(text) ?? [];
  return authority === undefined || value === undefined ? undefined : { type: "serials", authority, value };
}

/** Whom a statement is for. */
export type FleetScope = { readonly type: "all" } | { readonly type: "group" | "node"; readonly name: string };

export function writeScope(scope: FleetScope): string {
  return scope.type === "all" ? "all" : `${scope.type}:${scope.name}`;
}

export function tryParseScope(text: string): FleetScope | undefined {
  if (text === "all") return { type: "all" };
  const [, type, name] = /^(group|node):(.+)$/.exec(text) ?? [];
  if (name === undefined || !FLEET_NAME.test(name)) return undefined;
  return { type: type === "group" ? "group" : "node", name };
}

/** The state of one node's rules, or of the whole fleet's: equal numbers and digests mean equal resources. */
export interface FleetGeneration {
  /** The sum of all revisions: grows with every change, and shrinks only when the words of a revoked key fall. */
  readonly number: number;
  /** Of every resource statement, 16 hexadecimal digits. */
  readonly digest: string;
}

/** One node as the fleet knows it. */
export interface FleetNode {
  readonly name: string;
  readonly state: "active" | "revoked";
  /** Its fleet key: 64 hexadecimal digits of Ed25519. */
  readonly key: string;
  /** Key identifiers of its intermediates, the present one first. */
  readonly authorities: readonly string[];
  readonly group: string;
  /** The IDs that it may issue. */
  readonly idPrefixes: readonly string[];
  readonly isIssuer: boolean;
  /** `token ID`, `file`, `init`. */
  readonly admittedBy: string;
  readonly admittedAt: number;
  /** What it said of itself last; undefined when it never spoke. */
  readonly presence: NodePresence | undefined;
  /** Hash of the statement that says so: the roster entry, or the revocation. */
  readonly statement: string;
}

export interface NodePresence {
  /** When it said so, by its own clock. */
  readonly saidAt: number;
  readonly addresses: readonly string[];
  readonly version: string;
  readonly applied: FleetGeneration | undefined;
  /** Why it could not apply what it wants to, in a sentence. */
  readonly failure: string | undefined;
}

/** Where a workload of a peer listens. */
export interface FleetEndpoint {
  readonly node: string;
  readonly spiffeId: string;
  readonly address: string;
  readonly port: number;
}

/** What an operator's key may do; absent lists have no bound. */
export interface OperatorRights {
  /** Resource kinds. */
  readonly kinds: readonly string[];
  readonly groups: readonly string[] | undefined;
  readonly idPrefixes: readonly string[] | undefined;
  readonly revoke: readonly RevocationType[];
}

/** What a token lets its bearer be. */
export interface Admission {
  /** undefined: the node names itself. */
  readonly nodeName: string | undefined;
  readonly group: string;
  /** 1 to 64. */
  readonly idPrefixes: readonly string[];
  /** A person must approve it. */
  readonly needsApproval: boolean;
  /** It may take the place of the node that has its name now. */
  readonly mayReplace: boolean;
}

export const GROUP_DEFAULT = "default";
/** As in enrolment: what one node may issue. */
export const FLEET_PREFIXES_MAX = ID_PREFIXES_MAX;
