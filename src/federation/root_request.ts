// What a node asks of the root of its trust domain, and the root's answer, as documents that a person carries: strict JSON. Signs by the key it is given.
import { RiprapError } from "../error.ts";
import { FLEET_NAME, tryParseTarget } from "../fleet.ts";
import { isJsonObject, type JsonValue, parseJson } from "../json.ts";
import { TrustDomain } from "../spiffe_id.ts";
import {
  type IssuerBody,
  type OperatorBody,
  parseBody,
  type RevocationBody,
  type RootsBody,
  writeBody,
} from "./body.ts";
import type { Signer } from "./curve.ts";
import { DOMAIN_BUNDLE, type Statement, signStatement } from "./statement.ts";
import { endorse, fingerprintOf } from "./succession.ts";

export const ROOT_DOCUMENT_MAX = 256 * 1024;
const REQUEST = "riprap-root-request";
const ANSWER = "riprap-root-answer";
const VERSION = 1;
const ASKS_MAX = 16;

/** One right that only the root can give. */
export type RootAsk =
  | { readonly kind: "issuer"; readonly name: string; readonly revision: number; readonly body: IssuerBody }
  | { readonly kind: "operator"; readonly name: string; readonly revision: number; readonly body: OperatorBody }
  /** Tells the fleet which roots the trust domain has; whoever signs it brings in those that are new. */
  | { readonly kind: "bundle"; readonly name: string; readonly revision: number; readonly body: RootsBody }
  /** Ends what only the root can end: the role of an issuing node. `name` is the target. */
  | { readonly kind: "revocation"; readonly name: string; readonly revision: number; readonly body: RevocationBody };

export interface RootRequest {
  readonly trustDomain: string;
  /** Who asks. */
  readonly node: string;
  /** PKCS#10 in PEM for an issuing CA; empty where none is asked for. */
  readonly csr: string;
  readonly asks: readonly RootAsk[];
}

export interface RootAnswer {
  readonly trustDomain: string;
  /** PEM: the issuing CA, then the root; empty where none was asked for. */
  readonly certificates: string;
  readonly statements: readonly Uint8Array[];
}

export function writeRootRequest({ trustDomain, node, csr, asks }: RootRequest): string {
  const bodies = asks.map((ask) => ({ ...ask, body: JSON.parse(Buffer.from(writeAsk(ask)).toString()) as unknown }));
  return document({ kind: REQUEST, version: VERSION, trustDomain, node, csr, asks: bodies });
}

/** Throws RiprapError `root_document_invalid`. */
export function parseRootRequest(text: string): RootRequest {
  const value = readDocument(text, REQUEST, ["trustDomain", "node", "csr", "asks"]);
  const { asks } = value;
  if (!Array.isArray(asks) || asks.length === 0 || asks.length > ASKS_MAX)
    throw invalid("it asks for nothing, or too much");
  const node = textOf(value, "node");
  if (!FLEET_NAME.test(node)) throw invalid("its node is none");
  const read = asks.map((ask: JsonValue) => readAsk(ask));
  return {
    trustDomain: TrustDomain.parse(textOf(value, "trustDomain")).name,
    node,
    csr: textOf(value, "csr"),
    asks: read,
  };
}

export function writeRootAnswer({ trustDomain, certificates, statements }: RootAnswer): string {
  const texts = statements.map((bytes) => Buffer.from(bytes).toString("base64"));
  return document({ kind: ANSWER, version: VERSION, trustDomain, certificates, statements: texts });
}

/** Throws RiprapError `root_document_invalid`. What the statements say is judged where they are taken. */
export function parseRootAnswer(text: string): RootAnswer {
  const value = readDocument(text, ANSWER, ["trustDomain", "certificates", "statements"]);
  const { statements } = value;
  if (!Array.isArray(statements) || statements.length > ASKS_MAX) throw invalid("its statements are none");
  const bytes = statements.map((item: JsonValue) => {
    const decoded = typeof item === "string" ? Buffer.from(item, "base64") : undefined;
    if (decoded === undefined || decoded.toString("base64") !== item) throw invalid("a statement is no base64");
    return new Uint8Array(decoded);
  });
  const trustDomain = TrustDomain.parse(textOf(value, "trustDomain")).name;
  return { trustDomain, certificates: textOf(value, "certificates"), statements: bytes };
}

/** The statements that give what is asked. `authority`: key identifier of the issuing CA that was signed with it, if one was. */
export function grantRootRequest(
  { trustDomain, asks }: RootRequest,
  root: Signer,
  { time, authority }: { time: number; authority: string | undefined },
): readonly Statement[] {
  return asks.map((ask) => {
    const { kind, name, revision } = ask;
    const body =
      ask.kind === "issuer"
        ? writeBody("issuer", { ...ask.body, authority })
        : ask.kind === "bundle"
          ? writeBody("roots", { roots: endorse(ask.body.roots, { trustDomain, author: root }) })
          : writeAsk(ask);
    return signStatement({ trustDomain, kind, name, revision, time, body }, root);
  });
}

/** A sentence for each right, for the person who gives it. */
export function describeRootRequest({ node, csr, asks }: RootRequest): readonly string[] {
  const signs = csr === "" ? [] : [`node ${node} gets a CA that signs the intermediates of nodes`];
  return [...signs, ...asks.map(describeAsk)];
}

function describeAsk(ask: RootAsk): string {
  if (ask.kind === "issuer") {
    return `node ${ask.name} admits nodes that issue ${ask.body.idPrefixes.join(", ")} (key ${ask.body.key.slice(0, 16)}…)`;
  }
  if (ask.kind === "revocation") {
    const { reason, keep } = ask.body;
    return `${ask.name} is revoked for ever (${reason || "no reason given"}); ${keep.length} of its statements stand`;
  }
  if (ask.kind === "bundle") {
    const roots = ask.body.roots.map((entry) => `${fingerprintOf(entry)} ${entry.state}`);
    return `the roots of the trust domain are ${roots.join(", ")}`;
  }
  const { key, kinds, groups, idPrefixes, revoke } = ask.body;
  const reach = groups === undefined ? "every node" : `the groups ${groups.join(", ")}`;
  const ids = idPrefixes === undefined ? "any ID" : idPrefixes.join(", ");
  const ends = revoke.length === 0 ? "nothing" : revoke.join(", ");
  const hasLimits = groups !== undefined || idPrefixes !== undefined;
  const names = hasLimits ? `, under names that begin with ${ask.name}.,` : ",";
  return `operator ${ask.name} sets ${kinds.join(", ")} for ${reach}, about ${ids}${names} and revokes ${ends} (key ${key.slice(0, 16)}…)`;
}

function writeAsk(ask: RootAsk): Uint8Array {
  if (ask.kind === "issuer") return writeBody("issuer", ask.body);
  if (ask.kind === "bundle") return writeBody("roots", ask.body);
  return ask.kind === "operator" ? writeBody("operator", ask.body) : writeBody("revocation", ask.body);
}

function readAsk(value: JsonValue): RootAsk {
  if (!isJsonObject(value)) throw invalid("what it asks is no JSON object");
  const { kind, name, revision, body, ...rest } = value;
  if (Object.keys(rest).length > 0)
    throw invalid(`it asks with the unknown member ${Object.keys(rest)[0]?.slice(0, 60)}`);
  const isNamed = (text: string) =>
    kind === "revocation" ? tryParseTarget(text) !== undefined : FLEET_NAME.test(text);
  if (typeof name !== "string" || !isNamed(name)) throw invalid("it asks for nobody");
  if (typeof revision !== "number" || !Number.isSafeInteger(revision) || revision < 1)
    throw invalid("its revision is none");
  const bytes = { body: Buffer.from(JSON.stringify(body ?? null)) };
  try {
    if (kind === "issuer") return { kind, name, revision, body: parseBody("issuer", bytes) };
    if (kind === "operator") return { kind, name, revision, body: parseBody("operator", bytes) };
    if (kind === "bundle" && name === DOMAIN_BUNDLE) return { kind, name, revision, body: parseBody("roots", bytes) };
    if (kind === "revocation") return { kind, name, revision, body: parseBody("revocation", bytes) };
  } catch (cause) {
    throw invalid((cause as Error).message, cause);
  }
  throw invalid("it asks for what the root does not give");
}

function document(value: Readonly<Record<string, unknown>>): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

function readDocument(text: string, kind: string, members: readonly string[]): Readonly<Record<string, JsonValue>> {
  if (text.length > ROOT_DOCUMENT_MAX) throw invalid(`it is longer than ${ROOT_DOCUMENT_MAX} characters`);
  let value: JsonValue;
  try {
    value = parseJson(text);
  } catch (cause) {
    throw invalid((cause as Error).message, cause);
  }
  if (!isJsonObject(value) || value["kind"] !== kind) throw invalid(`it is no ${kind}`);
  if (value["version"] !== VERSION) throw invalid("it is of another version of riprap");
  const unknown = Object.keys(value).find((member) => !["kind", "version", ...members].includes(member));
  if (unknown !== undefined) throw invalid(`it has the unknown member ${JSON.stringify(unknown.slice(0, 60))}`);
  return value;
}

function textOf(value: Readonly<Record<string, JsonValue>>, name: string): string {
  const text = value[name];
  if (typeof text !== "string") throw invalid(`its ${name} is no text`);
  return text;
}

function invalid(fact: string, cause?: unknown): RiprapError {
  return new RiprapError("root_document_invalid", `Cannot read the document for the root: ${fact}`, { cause });
}
