// Whether a node that comes with a token is let in: once, in time, as what the token says. Values in, a verdict and the token's next record out.
import { hash } from "node:crypto";
import type { EnrolmentRequest } from "../enrolment.ts";
import { FLEET_NAME } from "../fleet.ts";
import { keyIdOf } from "./curve.ts";
import type { JoinRequest } from "./join.ts";
import type { RosterState } from "./roster.ts";
import type { TokenBearer, TokenRecord } from "./token.ts";

/** Further apart, one of the clocks is wrong, and certificates would be refused next. */
export const JOIN_SKEW_MAX_MS = 5 * 60 * 1000;
/** Requests with one token whose time is not over yet, ten minutes at most: a machine that asks every two seconds makes 300. */
export const JOIN_TRIES_MAX = 1024;

/** How long after a token's end its first bearer may still ask: for an answer that was lost, or for a person's word. */
const GRACE_MS: Readonly<Record<TokenRecord["use"]["state"], number>> = {
  unused: 0,
  pending: 24 * 3600 * 1000,
  approved: 24 * 3600 * 1000,
  denied: 24 * 3600 * 1000,
  used: JOIN_SKEW_MAX_MS,
};

export const JOIN_REFUSALS = [
  "join_malformed",
  "token_unknown",
  "join_forged",
  "join_replayed",
  "join_too_often",
  "join_busy",
  "join_clock",
  "join_wrong_root",
  "join_retired_root",
  "join_name",
  "token_expired",
  "token_revoked",
  "token_spent",
  "join_denied",
  "node_revoked",
  "node_exists",
  "join_nkey",
] as const;
export type JoinRefusalCode = (typeof JOIN_REFUSALS)[number];

export type JoinVerdict =
  /** `isRetry`: the same machine asks again, because an answer was lost. */
  | { readonly outcome: "grant"; readonly bearer: TokenBearer; readonly isRetry: boolean }
  | { readonly outcome: "pending"; readonly bearer: TokenBearer }
  | { readonly outcome: "refused"; readonly code: JoinRefusalCode; readonly message: string };

export interface JoinContext {
  readonly state: RosterState;
  /** SHA-256 of every root of the trust domain, and of the one under which new nodes are signed. */
  readonly roots: { readonly all: readonly string[]; readonly signing: string };
  readonly now: number;
}

type Fault = readonly [code: JoinRefusalCode, fact: string];

export interface JoinClaim {
  readonly request: JoinRequest;
  readonly enc: string;
  /** The document in the request, parsed: its name is the one that a certificate is signed for. */
  readonly enrolment: Pick<EnrolmentRequest, "nodeName">;
}

/** Judges an opened request. The caller keeps `record` before it answers, so that no answer can be had twice. */
export function judgeJoin(
  record: TokenRecord,
  { request, enc, enrolment }: JoinClaim,
  context: JoinContext,
): { readonly verdict: JoinVerdict; readonly record: TokenRecord } {
  const next = { ...record, seen: seenAfter(record, { request, enc }, context.now) };
  const bearer = bearerOf(record, request, context.now);
  const fault =
    freshFault(record, enc, context.now) ??
    requestFault(request, context) ??
    nameFault(record, request, enrolment) ??
    tokenFault(record, bearer, context) ??
    admissionFault(context.state, {
      nodeName: bearer.nodeName,
      key: bearer.key,
      mayReplace: record.admission.mayReplace,
    }) ??
    nkeyFault(context.state, { nodeName: bearer.nodeName, nkey: request.nkey });
  if (fault !== undefined) return { verdict: refuse(fault), record: next };
  const { use } = record;
  if (use.state === "used") return { verdict: { outcome: "grant", bearer: use.bearer, isRetry: true }, record: next };
  if (record.admission.needsApproval && use.state !== "approved") {
    const pending = use.state === "pending" ? use.bearer : bearer;
    return {
      verdict: { outcome: "pending", bearer: pending },
      record: { ...next, use: { state: "pending", bearer: pending } },
    };
  }
  const used = { state: "used", bearer, usedAt: context.now } as const;
  return { verdict: { outcome: "grant", bearer, isRetry: false }, record: { ...next, use: used } };
}

/** How the roster says that a node came with a token. */
export function admittedByToken(id: string): string {
  return `token ${id}`;
}

/** Whether a request with this encapsulated key came before. */
export function isReplayed({ seen }: Pick<TokenRecord, "seen">, enc: string): boolean {
  return seen.some((request) => request.enc === enc);
}

/** A person's word about the node that waits. Undefined when nobody waits with this token. */
export function decidePending(record: TokenRecord, decision: "approved" | "denied"): TokenRecord | undefined {
  const { use } = record;
  return use.state === "pending" ? { ...record, use: { state: decision, bearer: use.bearer } } : undefined;
}

/** Why a node cannot be in the roster under this name and key, whatever lets it in; undefined when it can. */
export function admissionFault(
  state: RosterState,
  { nodeName, key, authority, mayReplace }: AdmissionClaim,
): Fault | undefined {
  const { standing } = state;
  const isRevoked = (target: string) => standing.revocationsOf(target).length > 0;
  if (isRevoked(`node:${nodeName}`)) return ["node_revoked", `the node ${nodeName} is revoked, and its name with it`];
  const former = standing.grantsOfKey("node", key).find(({ name }) => isRevoked(`node:${name}`));
  if (former !== undefined) return ["node_revoked", `its key is that of the node ${former.name}, which is revoked`];
  if (authority !== undefined) {
    const owner = standing.nodesOfAuthority(authority).find(({ name }) => isRevoked(`node:${name}`));
    if (owner !== undefined || isRevoked(`authority:${authority}`)) {
      return [
        "node_revoked",
        `its authority's key is revoked${owner === undefined ? "" : ` with the node ${owner.name}`}`,
      ];
    }
  }
  const present = standing.grantOf("node", nodeName);
  return present === undefined || present.body.key === key || mayReplace
    ? undefined
    : ["node_exists", `there is a node ${nodeName} with another key; choose another name, or let the token replace it`];
}

/** Nobody proves that an nkey is his: with another's in the roster the broker would have one user twice, and take no configuration. */
function nkeyFault(
  state: RosterState,
  { nodeName, nkey }: { readonly nodeName: string; readonly nkey: string },
): Fault | undefined {
  if (nkey === "") return undefined;
  const { standing } = state;
  const other = state.list("node").find(({ name }) => {
    if (name === nodeName || standing.revocationsOf(`node:${name}`).length > 0) return false;
    return standing.grantOf("node", name)?.body.nkey === nkey;
  });
  const remedy = "give the node an nkey of its own (natsCredentials)";
  return other === undefined ? undefined : ["join_nkey", `its nkey is that of the node ${other.name}; ${remedy}`];
}

export interface AdmissionClaim {
  readonly nodeName: string;
  /** Ed25519, hexadecimal. */
  readonly key: string;
  /** Key identifier of the intermediate that it asks for. */
  readonly authority?: string;
  readonly mayReplace: boolean;
}

/** How a person compares what waits with the machine in front of him: the same eight groups are printed on both. */
export function bearerFingerprint(key: string): string {
  return keyIdOf(Buffer.from(key, "hex")).replace(/(.{4})(?=.)/g, "$1-");
}

function bearerOf({ admission }: TokenRecord, request: JoinRequest, now: number): TokenBearer {
  return {
    nodeName: admission.nodeName ?? request.nodeName,
    key: Buffer.from(request.key).toString("hex"),
    csrDigest: hash("sha256", requestInfoOf(request.enrolment), "hex"),
    at: now,
  };
}

/** What is asked for (RFC 2986 section 4.1, CertificationRequestInfo): its signature, and the dates of the document around it, differ each time. */
function requestInfoOf(enrolment: string): Uint8Array {
  const text = /"csr":\s*"([A-Za-z0-9+/=]+)"/.exec(enrolment)?.[1];
  const csr = Buffer.from(text ?? enrolment, text === undefined ? "utf8" : "base64");
  const outer = contentOf(csr, 0);
  const inner = outer === undefined ? undefined : contentOf(csr, outer.start);
  return outer === undefined || inner === undefined ? csr : csr.subarray(outer.start, inner.end);
}

/** Of a SEQUENCE in DER with a length of two octets at most; undefined for anything else. */
function contentOf(der: Buffer, at: number): { readonly start: number; readonly end: number } | undefined {
  const first = der[at + 1] ?? 0x80;
  const octets = first < 0x80 ? 0 : first - 0x80;
  const start = at + 2 + octets;
  if (der[at] !== 0x30 || (first >= 0x80 && (octets < 1 || octets > 2)) || start > der.length) return undefined;
  const end = start + (octets === 0 ? first : der.readUIntBE(at + 2, octets));
  return end > der.length ? undefined : { start, end };
}

/** With this request, and without those that their own time refuses from now on. */
function seenAfter(record: TokenRecord, { request, enc }: Omit<JoinClaim, "enrolment">, now: number) {
  const seen = record.seen.filter(({ until }) => until >= now);
  const until = request.time + JOIN_SKEW_MAX_MS;
  const isKept = !isOff(request, now) && seen.length < JOIN_TRIES_MAX && !isReplayed({ seen }, enc);
  return isKept ? [...seen, { enc, until }] : seen;
}

function isOff({ time }: JoinRequest, now: number): boolean {
  return Math.abs(time - now) > JOIN_SKEW_MAX_MS;
}

function freshFault(record: TokenRecord, enc: string, now: number): Fault | undefined {
  if (isReplayed(record, enc)) return ["join_replayed", "this very request came before, and was answered"];
  return record.seen.filter(({ until }) => until >= now).length >= JOIN_TRIES_MAX
    ? [
        "join_too_often",
        `more than ${JOIN_TRIES_MAX} requests came with the token within minutes; wait ten, or make a new one`,
      ]
    : undefined;
}

function requestFault(request: JoinRequest, context: JoinContext): Fault | undefined {
  const { roots, now } = context;
  const seconds = Math.round((request.time - now) / 1000);
  if (isOff(request, now)) {
    const which = seconds > 0 ? `${seconds} s ahead of` : `${-seconds} s behind`;
    return ["join_clock", `its clock is ${which} the issuing node's; set both, and join again`];
  }
  if (!roots.all.includes(request.rootFingerprint)) {
    return ["join_wrong_root", "it was told to believe another root than this trust domain's; make a new token"];
  }
  if (request.rootFingerprint !== roots.signing) {
    const fact = "its token names a root under which nothing is signed any more";
    return ["join_retired_root", `${fact}; make a new token with riprap token create`];
  }
  return undefined;
}

/** One name: of the token where it has one, of the request, and of what is signed. */
function nameFault({ admission }: TokenRecord, { nodeName }: JoinRequest, asked: JoinClaim["enrolment"]) {
  const refuse = (fact: string): Fault => ["join_name", fact];
  if (!FLEET_NAME.test(nodeName)) return refuse("its name is none");
  if (admission.nodeName !== undefined && admission.nodeName !== nodeName)
    return refuse(`the token is for the node ${admission.nodeName} alone`);
  if (asked.nodeName === nodeName) return undefined;
  const other = JSON.stringify(asked.nodeName.slice(0, 80));
  return refuse(`it comes as ${nodeName} and wants a certificate for ${other}; join again with one name`);
}

function tokenFault(record: TokenRecord, bearer: TokenBearer, { state, now }: JoinContext): Fault | undefined {
  const { use } = record;
  if (state.standing.revocationsOf(`token:${record.id}`).length > 0) return ["token_revoked", "the token is revoked"];
  if (use.state !== "unused" && !isSame(use.bearer, bearer)) {
    const when = new Date(use.bearer.at).toISOString();
    return [
      "token_spent",
      `the node ${use.bearer.nodeName} came with it at ${when}; if that was not you, revoke that node`,
    ];
  }
  // This node's own record may be from an old image of its disk.
  const other = [...state.standing.grants("node")].find(
    ({ name, body }) =>
      body.admittedBy === admittedByToken(record.id) && (name !== bearer.nodeName || body.key !== bearer.key),
  );
  if (other !== undefined) {
    return ["token_spent", `the node ${other.name} is in the roster by it; if that was not you, revoke that node`];
  }
  if (now > record.expiresAt + GRACE_MS[use.state]) {
    return ["token_expired", `it ended at ${new Date(record.expiresAt).toISOString()}; make a new one`];
  }
  return use.state === "denied" ? ["join_denied", "a person has denied it"] : undefined;
}

function isSame(a: TokenBearer, b: TokenBearer): boolean {
  return a.nodeName === b.nodeName && a.key === b.key && a.csrDigest === b.csrDigest;
}

function refuse([code, fact]: Fault): JoinVerdict {
  return { outcome: "refused", code, message: `Cannot admit the node: ${fact}` };
}
