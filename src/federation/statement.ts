// A statement: one signed record of the fleet, and the exact octets that its signature covers. Signs, writes, reads and verifies; judges no right.
import { hash } from "node:crypto";
import { RiprapError } from "../error.ts";
import { TRUST_DOMAIN_MAX_BYTES } from "../spiffe_id.ts";
import {
  ED25519_KEY_BYTES,
  keyIdOf,
  P256_KEY_BYTES,
  SIGNATURE_BYTES_MAX,
  type Signer,
  verifySignature,
} from "./curve.ts";
import { OctetReader, OctetWriter } from "./octet.ts";

/** What a statement can be about. Who may say which is in right.ts. */
export const STATEMENT_KINDS = [
  "issuer",
  "operator",
  "node",
  "revocation",
  "bundle",
  "resource",
  "presence",
  "endpoint",
] as const;
export type StatementKind = (typeof STATEMENT_KINDS)[number];

/** The name of the bundle that says which roots there are; no node can be heard under it. */
export const DOMAIN_BUNDLE = "domain";

/** A resource of many rules, a list of some hundred endpoints, or the hashes that outlive a revoked key fit. */
export const BODY_BYTES_MAX = 64 * 1024;
/** A SPIFFE ID with the word before it. */
export const NAME_BYTES_MAX = 2100;
export const SCOPE_BYTES_MAX = 80;
/** All fields at their greatest. */
export const STATEMENT_BYTES_MAX = BODY_BYTES_MAX + NAME_BYTES_MAX + 640;

const FORMAT = 1;
/** What the signature covers begins with this, so that no other signed thing can be taken for a statement. */
const DOMAIN = "riprap statement 1";
const DELETED = 1;
/** Of what never ends; as a message carries it. */
const RANK_MOST = 2 ** 48 - 1;

export interface StatementContent {
  readonly trustDomain: string;
  readonly kind: StatementKind;
  /** Within its kind: a node, an operator, `Kind/name` of a resource, `type:value` of a revocation. */
  readonly name: string;
  /** Whom it is for: `all`, `group:NAME` or `node:NAME`. */
  readonly scope: string;
  /** Counts what was said under this key: the greater one stands. 1 or more, and no more than the milliseconds since the epoch, by the receiver's clock. */
  readonly revision: number;
  /** Milliseconds since the epoch, by the author's clock: for people, and for two of one revision. */
  readonly time: number;
  /** Milliseconds since the epoch; 0: it stands until another takes its place. */
  readonly expiresAt: number;
  /** It says that there is nothing under this key any more. */
  readonly isDeleted: boolean;
  /** Ed25519 key (32 bytes), or the root's P-256 point (65). */
  readonly author: Uint8Array;
  /** By kind: JSON of body.ts, or the YAML of a resource. Empty when it is deleted. */
  readonly body: Uint8Array;
}

export interface Statement extends StatementContent {
  readonly signature: Uint8Array;
  /** All of it as it travels. */
  readonly bytes: Uint8Array;
  /** What it stands under: see statementKey. */
  readonly key: string;
  /** keyIdOf its author. */
  readonly authorId: string;
  /** SHA-256 of what is signed, hexadecimal: its name in logs, and the last word between two of one revision. */
  readonly hash: string;
}

export type StatementDraft = Omit<StatementContent, "author" | "scope" | "expiresAt" | "isDeleted"> &
  Partial<Pick<StatementContent, "scope" | "expiresAt" | "isDeleted">>;

/** Signs a statement. A field out of its bounds is a programmer's mistake (RangeError). */
export function signStatement(draft: StatementDraft, signer: Signer): Statement {
  const content = { scope: "all", expiresAt: 0, isDeleted: false, ...draft, author: signer.publicKey };
  if (content.body.length > BODY_BYTES_MAX) throw new RangeError(`a body has at most ${BODY_BYTES_MAX} bytes`);
  const head = contentBytes(content);
  return parseStatement(
    new OctetWriter()
      .raw(head)
      .bytes8(signer.sign(signedBytes(head)))
      .end(),
  );
}

/** The form alone; the signature is verifyStatement's. Throws RiprapError `statement_malformed`. */
export function parseStatement(bytes: Uint8Array): Statement {
  try {
    if (bytes.length > STATEMENT_BYTES_MAX) throw new Error(`it is longer than ${STATEMENT_BYTES_MAX} bytes`);
    const reader = new OctetReader(bytes);
    const content = readContent(reader);
    const head = bytes.subarray(0, reader.at);
    const signature = reader.bytes8(SIGNATURE_BYTES_MAX);
    reader.end();
    const authorId = keyIdOf(content.author);
    const digest = hash("sha256", signedBytes(head), "hex");
    const key = statementKey(content, authorId, digest);
    return { ...content, signature, bytes: new Uint8Array(bytes), key, authorId, hash: digest };
  } catch (cause) {
    throw new RiprapError("statement_malformed", `Cannot read the statement: ${(cause as Error).message}`, { cause });
  }
}

/** Whether its author signed it as it stands. */
export function verifyStatement(statement: Statement): boolean {
  const head = statement.bytes.subarray(0, statement.bytes.length - statement.signature.length - 1);
  return verifySignature(signedBytes(head), statement.signature, statement.author);
}

export function isSuccession({ kind, name }: Pick<Statement, "kind" | "name">): boolean {
  return kind === "bundle" && name === DOMAIN_BUNDLE;
}

/**
 * What a statement stands under: `kind/name`. For a revocation the author too, because one person's word must not take the place of another's; a record
 * of the roots stands beside every other that does not contain it.
 */
function statementKey(about: Pick<Statement, "kind" | "name">, authorId: string, digest: string): string {
  const key = `${about.kind}/${about.name}`;
  if (isSuccession(about)) return `${key}@${digest.slice(0, 32)}`;
  return about.kind === "revocation" ? `${key}@${authorId}` : key;
}

/**
 * Which of two statements under one key stands: above 0 when `a` does. The greater rank, then the greater revision, the later time, the
 * greater hash: the same everywhere, whatever came first.
 */
export function compareStatements(a: Statement, b: Statement): number {
  const [rankA, rankB] = [rankOf(a), rankOf(b)];
  if (rankA !== rankB) return rankA - rankB;
  if (a.revision !== b.revision) return a.revision - b.revision;
  if (a.time !== b.time) return a.time - b.time;
  return a.hash === b.hash ? 0 : a.hash > b.hash ? 1 : -1;
}

/** What decides first between two under one key: the revision; of revocations the later end, because a shorter one would take the longer back. */
export function rankOf({ kind, revision, expiresAt }: Pick<Statement, "kind" | "revision" | "expiresAt">): number {
  if (kind !== "revocation") return revision;
  return expiresAt === 0 ? RANK_MOST : expiresAt;
}

function contentBytes(content: StatementContent): Uint8Array {
  const { trustDomain, kind, name, scope, revision, time, expiresAt, isDeleted, author, body } = content;
  return new OctetWriter()
    .u8(FORMAT)
    .text8(trustDomain)
    .u8(STATEMENT_KINDS.indexOf(kind))
    .text16(name)
    .text8(scope)
    .u48(revision)
    .u48(time)
    .u48(expiresAt)
    .u8(isDeleted ? DELETED : 0)
    .bytes8(author)
    .bytes32(body)
    .end();
}

function readContent(reader: OctetReader): StatementContent {
  if (reader.u8() !== FORMAT) throw new Error(`it is not of format ${FORMAT}; use the same riprap on all nodes`);
  const trustDomain = reader.text8(TRUST_DOMAIN_MAX_BYTES);
  const kind = STATEMENT_KINDS[reader.u8()];
  if (kind === undefined) throw new Error("it is of a kind that this version does not know");
  const name = reader.text16(NAME_BYTES_MAX);
  const scope = reader.text8(SCOPE_BYTES_MAX);
  const [revision, time, expiresAt, flags] = [reader.u48(), reader.u48(), reader.u48(), reader.u8()];
  const author = reader.bytes8(P256_KEY_BYTES);
  const body = reader.bytes32(BODY_BYTES_MAX);
  if (revision === 0) throw new Error("its revision is 0");
  if (flags > DELETED) throw new Error("it has a flag that this version does not know");
  const isDeleted = flags === DELETED;
  if (isDeleted !== (body.length === 0)) throw new Error("it is deleted and has a body, or has none and is not");
  if (author.length !== ED25519_KEY_BYTES && author.length !== P256_KEY_BYTES) throw new Error("its author is no key");
  return { trustDomain, kind, name, scope, revision, time, expiresAt, isDeleted, author, body };
}

function signedBytes(head: Uint8Array): Uint8Array {
  return new OctetWriter().text8(DOMAIN).raw(head).end();
}
