// The bodies of statements, as JSON: read strictly, written in one way. Says what each holds; who may say it is in right.ts.
import { isIP } from "node:net";
import { RiprapError } from "../error.ts";
import {
  AUTHORITY_ID,
  FLEET_NAME,
  FLEET_PREFIXES_MAX,
  type FleetGeneration,
  type OperatorRights,
  REVOCATION_TYPES,
  type RevocationType,
} from "../fleet.ts";
import { isJsonObject, type JsonValue, parseJson } from "../json.ts";
import { SpiffeId } from "../spiffe_id.ts";
import type { Statement } from "./statement.ts";

/** A key that rotates, with those before it whose SVIDs still live. */
export const AUTHORITIES_MAX = 8;
export const ADDRESSES_MAX = 16;
/** One busy node; more are a load balancer's business. */
export const ENDPOINTS_MAX = 512;
/** 16 bytes each in hexadecimal: what of a revoked key's words still stands. */
export const KEEP_MAX = 1800;
/** Half of them in the bundle at once, the others former ones. */
export const ROOT_ENTRIES_MAX = 16;
/**
 * In all of a record. A root makes issuing nodes and operators, and ends issuing nodes: dozens in years. As many as fit a body of 64 KiB beside sixteen
 * roots whose certificates are as long as they may be.
 */
export const ROOT_KEEP_MAX = 1024;
const GROUPS_MAX = 256;
const SENTENCE_MAX = 256;

/** The root says: this node signs intermediates and keeps the roster. */
export interface IssuerBody {
  /** Ed25519 key in hexadecimal. */
  readonly key: string;
  /** Key identifier of its issuing CA; absent while the root alone signs certificates. */
  readonly authority: string | undefined;
  /** The IDs that nodes it admits may issue. */
  readonly idPrefixes: readonly string[];
}

/** The root says: this key speaks for a person. */
export interface OperatorBody extends OperatorRights {
  readonly key: string;
}

/** An issuing node says: this node is one of us. */
export interface NodeBody {
  readonly key: string;
  readonly authorities: readonly string[];
  readonly group: string;
  readonly idPrefixes: readonly string[];
  readonly admittedBy: string;
  readonly admittedAt: number;
  /** Public nkey with which it speaks to the broker; says nothing to other nodes. */
  readonly nkey?: string | undefined;
}

export interface RevocationBody {
  readonly reason: string;
  /** Of a revoked key: the first 32 digits of the hashes of what it said and what still stands. */
  readonly keep: readonly string[];
}

/** A node says of itself. */
export interface PresenceBody {
  readonly addresses: readonly string[];
  readonly version: string;
  readonly applied: FleetGeneration | undefined;
  readonly failure: string | undefined;
}

/** A node says: these workloads of mine listen here. */
export interface EndpointBody {
  readonly endpoints: readonly { readonly spiffeId: string; readonly address: string; readonly port: number }[];
}

/** One root of the trust domain, as the fleet is told of it. */
export interface RootEntry {
  /** DER in base64. */
  readonly certificate: string;
  /** `trusted`: it speaks. `retired`: it ends certificate paths, and says nothing new. `revoked`: neither. */
  readonly state: "trusted" | "retired" | "revoked";
  /** Of one that speaks no more: the first 32 digits of the hashes of what it said and what still stands. */
  readonly keep: readonly string[];
  /** Fingerprint of the root that brought it in; empty for the first. */
  readonly by: string;
  /** That root's signature about it, DER in hexadecimal. */
  readonly endorsement: string;
}

/** A root says: these are the roots of the trust domain. In the order in which they came. */
export interface RootsBody {
  readonly roots: readonly RootEntry[];
}

export interface Bodies {
  readonly roots: RootsBody;
  readonly issuer: IssuerBody;
  readonly operator: OperatorBody;
  readonly node: NodeBody;
  readonly revocation: RevocationBody;
  readonly presence: PresenceBody;
  readonly endpoint: EndpointBody;
}

export type BodyKind = keyof Bodies;

/** How one member is read; undefined for what it does not take. */
interface Member<T> {
  readonly says: string;
  readonly isOptional?: boolean;
  read(value: JsonValue): T | undefined;
}

type Form<T> = { readonly [Name in keyof T]-?: Member<Exclude<T[Name], undefined>> };

const text = (pattern: RegExp, says: string): Member<string> => ({
  says,
  read: (value) => (typeof value === "string" && pattern.test(value) ? value : undefined),
});

const listOf = <T>(member: Member<T>, most: number, least = 0): Member<readonly T[]> => ({
  says: `a list of ${least} to ${most}, each ${member.says}`,
  read(value) {
    if (!Array.isArray(value) || value.length < least || value.length > most) return undefined;
    const items = value.map((item: JsonValue) => member.read(item));
    return items.includes(undefined) ? undefined : (items as T[]);
  },
});

const optional = <T>(member: Member<T>): Member<T> => ({ ...member, isOptional: true });

const key = text(/^[0-9a-f]{64}$/, "64 hexadecimal digits");
const authority = text(AUTHORITY_ID, "40 hexadecimal digits");
const name = text(FLEET_NAME, "a name of a-z, 0-9 and '-'");
const sentence = text(new RegExp(`^[^\\p{Cc}]{0,${SENTENCE_MAX}}$`, "u"), `text of up to ${SENTENCE_MAX} characters`);
const whole: Member<number> = {
  says: "a whole number",
  read: (value) => (typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined),
};
const prefix: Member<string> = {
  says: "a SPIFFE ID, or one followed by '/'",
  read: (value) =>
    typeof value === "string" && SpiffeId.tryParse(value.replace(/\/$/, "")) !== undefined ? value : undefined,
};
const workload: Member<string> = {
  says: "a SPIFFE ID with a path",
  read: (value) => (typeof value === "string" && (SpiffeId.tryParse(value)?.path ?? "") !== "" ? value : undefined),
};
const address: Member<string> = {
  says: "an IP address",
  read: (value) => (typeof value === "string" && isIP(value) !== 0 && !value.includes("%") ? value : undefined),
};
const port: Member<number> = {
  says: "a port",
  read: (value) =>
    typeof value === "number" && Number.isInteger(value) && value > 0 && value < 65_536 ? value : undefined,
};
const revocationType: Member<RevocationType> = {
  says: `one of ${REVOCATION_TYPES.join(", ")}`,
  read: (value) => REVOCATION_TYPES.find((type) => type === value),
};

const rootState: Member<RootEntry["state"]> = {
  says: "trusted, retired or revoked",
  read: (value) => (["trusted", "retired", "revoked"] as const).find((state) => state === value),
};
const hashes = text(/^[0-9a-f]{32}$/, "32 hexadecimal digits");

const GENERATION: Form<FleetGeneration> = { number: whole, digest: text(/^[0-9a-f]{16}$/, "16 hexadecimal digits") };

const ROOT_ENTRY: Form<RootEntry> = {
  certificate: text(/^[A-Za-z0-9+/]{1,1500}={0,2}$/, "a certificate in base64"),
  state: rootState,
  keep: listOf(hashes, ROOT_KEEP_MAX),
  by: text(/^(?:[0-9a-f]{64})?$/, "a fingerprint"),
  endorsement: text(/^(?:[0-9a-f]{2}){0,80}$/, "a signature in hexadecimal"),
};

const FORMS: { readonly [Kind in BodyKind]: Form<Bodies[Kind]> } = {
  issuer: { key, authority: optional(authority), idPrefixes: listOf(prefix, FLEET_PREFIXES_MAX, 1) },
  operator: {
    key,
    kinds: listOf(text(/^[A-Za-z]{1,40}$/, "a kind of resource"), 32),
    groups: optional(listOf(name, GROUPS_MAX)),
    idPrefixes: optional(listOf(prefix, FLEET_PREFIXES_MAX)),
    revoke: listOf(revocationType, REVOCATION_TYPES.length),
  },
  node: {
    key,
    authorities: listOf(authority, AUTHORITIES_MAX, 1),
    group: name,
    idPrefixes: listOf(prefix, FLEET_PREFIXES_MAX, 1),
    admittedBy: sentence,
    admittedAt: whole,
    nkey: optional(text(/^U[A-Z2-7]{55}$/, "the public nkey of a user")),
  },
  revocation: { reason: sentence, keep: listOf(hashes, KEEP_MAX) },
  presence: {
    addresses: listOf(address, ADDRESSES_MAX),
    version: sentence,
    applied: optional({ says: "a generation", read: (value) => readMembers(value, GENERATION, () => undefined) }),
    failure: optional(sentence),
  },
  roots: {
    roots: listOf(
      { says: "a root", read: (value) => readMembers(value, ROOT_ENTRY, () => undefined) },
      ROOT_ENTRIES_MAX,
      1,
    ),
  },
  endpoint: {
    endpoints: listOf(
      {
        says: "an endpoint",
        read: (value) => readMembers(value, { spiffeId: workload, address, port }, () => undefined),
      },
      ENDPOINTS_MAX,
    ),
  },
};

/** The octets of a body. What parseBody would refuse is a programmer's mistake (RangeError). */
export function writeBody<Kind extends BodyKind>(kind: Kind, body: Bodies[Kind]): Uint8Array {
  const members = Object.keys(FORMS[kind]) as (keyof Bodies[Kind])[];
  const text = JSON.stringify(Object.fromEntries(members.map((member) => [member, body[member]])));
  try {
    parseText(kind, text);
  } catch (cause) {
    throw new RangeError((cause as Error).message, { cause });
  }
  return Uint8Array.from(Buffer.from(text));
}

/** What a statement of this kind says. Throws RiprapError `body_invalid`. */
export function parseBody<Kind extends BodyKind>(kind: Kind, statement: Pick<Statement, "body">): Bodies[Kind] {
  return parseText(kind, Buffer.from(statement.body).toString("utf8"));
}

function parseText<Kind extends BodyKind>(kind: Kind, text: string): Bodies[Kind] {
  let value: JsonValue;
  try {
    value = parseJson(text);
  } catch (cause) {
    throw invalid(kind, (cause as Error).message, cause);
  }
  const form = FORMS[kind] as Form<Bodies[Kind]>;
  const read = readMembers(value, form, (fact) => invalid(kind, fact));
  if (read === undefined) throw invalid(kind, "it is no JSON object");
  return read;
}

/** `complain` may throw; without that, anything wrong gives undefined. */
function readMembers<T extends object>(
  value: JsonValue,
  form: Form<T>,
  complain: (fact: string) => Error | undefined,
): T | undefined {
  const refuse = (fact: string): undefined => {
    const error = complain(fact);
    if (error !== undefined) throw error;
  };
  if (!isJsonObject(value)) return refuse("it is no JSON object");
  const unknown = Object.keys(value).find((member) => !Object.hasOwn(form, member));
  if (unknown !== undefined) return refuse(`it has the unknown member ${JSON.stringify(unknown.slice(0, 60))}`);
  const result: Partial<Record<keyof T, unknown>> = {};
  for (const name of Object.keys(form) as (keyof T & string)[]) {
    const member = form[name];
    const given = value[name];
    if (given === undefined && member.isOptional === true) continue;
    const read = given === undefined ? undefined : member.read(given);
    if (read === undefined) return refuse(`its member ${name} is missing or wrong; it has to be ${member.says}`);
    result[name] = read;
  }
  return result as T;
}

function invalid(kind: BodyKind, fact: string, cause?: unknown): RiprapError {
  return new RiprapError("body_invalid", `Cannot read the statement about a ${kind}: ${fact}`, { cause });
}
