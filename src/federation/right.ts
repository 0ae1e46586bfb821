// Who may say what: judges a statement by the roles of its author. The root grants issuing nodes and operators; a node speaks of itself alone. Pure.
import { isWithinPrefixes } from "../enrolment.ts";
import { describeError } from "../error.ts";
import {
  FLEET_NAME,
  OPERATOR_REVOCATION_TYPES,
  type RevocationTarget,
  type RevocationType,
  tryParseScope,
  tryParseSerialSetName,
  tryParseTarget,
} from "../fleet.ts";
import { type EndpointBody, type NodeBody, parseBody } from "./body.ts";
import { keyHex, P256_KEY_BYTES } from "./curve.ts";
import { readResourceClaim } from "./resource_claim.ts";
import { readSerialSet } from "./serial_set.ts";
import type { Grant, Standing } from "./standing.ts";
import { isSuccession, type Statement } from "./statement.ts";
import type { SuccessionFault } from "./succession.ts";

export type RightRefusalCode =
  | "statement_invalid"
  | "body_invalid"
  | SuccessionFault[0]
  | "author_unknown"
  | "author_revoked"
  | "right_missing"
  | "outside_prefixes"
  | "outside_groups"
  | "outside_names"
  | "revocation_permanent";

export type RightFault = readonly [code: RightRefusalCode, fact: string];

export interface RightContext {
  readonly standing: Standing;
  /** Whether a root says this, or said it while it could. */
  isRootWord(key: Uint8Array, hash: string): boolean;
}

/** A reason of 250 characters, each written as it takes most. */
const REVOCATION_BYTES_MAX = 2048;

type Judge = (statement: Statement, context: RightContext) => RightFault | undefined;

/** What issuing nodes may revoke; the role of another issuing node is the root's to end, so that two of them cannot end one another. */
const ISSUER_REVOKES = new Set(["node", "authority", "token", "serial", "id", "executable", "operator"]);
/** Of these what issuing nodes with limits do not: they are no node's. */
const EVERYWHERE = new Set(["executable", "operator"]);
const OPERATOR_REVOKES: ReadonlySet<RevocationType> = new Set(OPERATOR_REVOCATION_TYPES);

/** By kind, for an author that is not the root. */
const JUDGES: Readonly<Record<Statement["kind"], Judge>> = {
  issuer: () => ["right_missing", "only the root makes an issuing node"],
  operator: () => ["right_missing", "only the root gives an operator rights"],
  node: judgeNode,
  revocation: judgeRevocation,
  bundle: judgeBundle,
  resource: judgeResource,
  presence: (statement, context) => judgeOwnWord(statement, context),
  endpoint: judgeEndpoint,
};

/** Why a statement may not stand, or undefined when it may. Its signature is not looked at. */
export function judgeRight(statement: Statement, context: RightContext): RightFault | undefined {
  const fault = formFault(statement);
  if (fault !== undefined) return fault;
  if (statement.author.length !== P256_KEY_BYTES) return JUDGES[statement.kind](statement, context);
  // Its own judge is what stands of the roots: Succession.
  if (isSuccession(statement)) return undefined;
  if (!context.isRootWord(statement.author, statement.hash))
    return ["root_unknown", "its author is no root of the trust domain that may say it"];
  // Which serial numbers there are besides the revoked ones is in the journal of the node that signed them.
  const isOwnWord = ["presence", "endpoint"].includes(statement.kind) || tryParseSerialSetName(statement.name);
  return isOwnWord ? ["right_missing", "a node speaks of itself alone"] : undefined;
}

function formFault(statement: Statement): RightFault | undefined {
  const { kind, name, scope, isDeleted, expiresAt } = statement;
  if (tryParseScope(scope) === undefined) return ["statement_invalid", "its scope is none"];
  if (kind === "revocation") {
    if (tryParseTarget(name) === undefined && tryParseSerialSetName(name) === undefined)
      return ["statement_invalid", "what it revokes is nothing that can be"];
    if (isDeleted) return ["revocation_permanent", "a revocation is never taken back"];
  } else if (kind !== "resource" && !FLEET_NAME.test(name)) return ["statement_invalid", "its name is none"];
  // What ends by itself would end a rule or a role on the day when nobody looks.
  if (expiresAt !== 0 && !/^(serials?|token):/.test(name)) return ["statement_invalid", "it must not end by itself"];
  if (isDeleted && isSuccession(statement)) return ["statement_invalid", "a trust domain has roots"];
  if (kind !== "resource" && scope !== "all") return ["statement_invalid", "only resources have a scope"];
  return isDeleted ? undefined : bodyFault(statement);
}

function bodyFault(statement: Statement): RightFault | undefined {
  try {
    if (statement.kind === "resource") readResourceClaim(statement);
    else if (isSuccession(statement)) parseBody("roots", statement);
    else if (tryParseSerialSetName(statement.name) !== undefined) readSerialSet(statement);
    else if (statement.kind === "revocation") return revocationFault(statement);
    else if (statement.kind !== "bundle") parseBody(statement.kind, statement);
    return undefined;
  } catch (thrown) {
    return ["body_invalid", describeError(thrown)];
  }
}

/** What a node may say of each of its serial numbers, thousands of times, is short. */
function revocationFault(statement: Statement): RightFault | undefined {
  const { keep } = parseBody("revocation", statement);
  if (/^(operator|issuer):/.test(statement.name)) return undefined;
  if (keep.length > 0)
    return statement.name.startsWith("node:")
      ? undefined
      : ["body_invalid", "only the end of an operator or a node lets stand what was said"];
  return statement.body.length > REVOCATION_BYTES_MAX
    ? ["body_invalid", `it has more than ${REVOCATION_BYTES_MAX} bytes`]
    : undefined;
}

/** The role in which an author speaks: refused when it has none, or when it was revoked and this is not among what stands. */
function findRole<R extends "issuer" | "operator">(role: R, statement: Statement, { standing }: RightContext) {
  const grants = standing.grantsOfKey(role, keyHex(statement.author));
  const revoked = grants.find(({ name }) => standing.isSilenced(role, name, statement.hash));
  const node = role === "issuer" ? revokedNodeOf(statement, standing) : undefined;
  const fault: RightFault | undefined =
    grants.length === 0
      ? ["author_unknown", `its author ${statement.authorId} is no ${role}`]
      : revoked !== undefined
        ? ["author_revoked", `the ${role} ${revoked.name} is revoked`]
        : node === undefined
          ? undefined
          : ["author_revoked", `the node ${node} is revoked`];
  return { fault, grants };
}

/**
 * An issuing node is a node: revoked as one it issues no more. Its word of itself stands all the same, for by that its key is known to be the revoked
 * node's: a first node has admitted itself.
 */
function revokedNodeOf(statement: Statement, standing: Standing): string | undefined {
  const key = keyHex(statement.author);
  const nodes = standing.grantsOfKey("node", key);
  // With another key, or none, it would be the end of what silences it.
  const isOwnEntry = statement.kind === "node" && !statement.isDeleted && parseBody("node", statement).key === key;
  return nodes.find(
    ({ name }) => !(isOwnEntry && name === statement.name) && standing.isSilenced("node", name, statement.hash),
  )?.name;
}

function judgeNode(statement: Statement, context: RightContext): RightFault | undefined {
  const { fault, grants } = findRole("issuer", statement, context);
  if (fault !== undefined || statement.isDeleted) return fault;
  const body: NodeBody = parseBody("node", statement);
  const outside = body.idPrefixes.find((prefix) => !grants.some(({ body }) => covers(body.idPrefixes, prefix)));
  return outside === undefined
    ? undefined
    : ["outside_prefixes", `its author may admit no node that issues ${outside}`];
}

function judgeRevocation(statement: Statement, context: RightContext): RightFault | undefined {
  const target = tryParseTarget(statement.name);
  if (target === undefined) return judgeOwnSerial(statement, context);
  const issuer = findRole("issuer", statement, context);
  if (issuer.grants.length > 0) {
    if (issuer.fault !== undefined) return issuer.fault;
    if (!ISSUER_REVOKES.has(target.type)) return ["right_missing", `only the root ends an ${target.type}`];
    return issuerReachFault(statement, target, issuer.grants);
  }
  const operator = findRole("operator", statement, context);
  if (operator.grants.length === 0) return judgeOwnSerial(statement, context);
  if (operator.fault !== undefined) return operator.fault;
  const may = operator.grants.some(
    ({ body }) =>
      OPERATOR_REVOKES.has(target.type) &&
      body.revoke.includes(target.type) &&
      (target.type !== "id" || body.idPrefixes === undefined || isWithinPrefixes(target.value, body.idPrefixes)),
  );
  return may ? undefined : ["right_missing", `its author may not revoke ${statement.name}`];
}

/** What an issuing node with limits revokes must not reach beyond them: an ID of others, or what has no prefix at all. */
function issuerReachFault(
  { trustDomain }: Statement,
  { type, value }: RevocationTarget,
  grants: readonly Grant<"issuer">[],
): RightFault | undefined {
  const prefixes = grants.flatMap(({ body }) => body.idPrefixes);
  if (covers(prefixes, `spiffe://${trustDomain}/`)) return undefined;
  const isWithin = type === "id" ? isWithinPrefixes(value, prefixes) : !EVERYWHERE.has(type);
  const remedy = "revoke it with an operator's key, or on an issuing node without limits";
  return isWithin ? undefined : ["outside_prefixes", `its author is limited to ${prefixes.join(", ")}: ${remedy}`];
}

/** A node takes back what it signed itself. */
function judgeOwnSerial(statement: Statement, { standing }: RightContext): RightFault | undefined {
  const target = tryParseSerialSetName(statement.name) ?? tryParseTarget(statement.name);
  const grants = standing.grantsOfKey("node", keyHex(statement.author));
  if (grants.length === 0) return ["author_unknown", `its author ${statement.authorId} is nobody here`];
  const revoked = grants.find(({ name }) => standing.isSilenced("node", name, statement.hash));
  if (revoked !== undefined) return ["author_revoked", `the node ${revoked.name} is revoked`];
  const isSerial = target?.type === "serial" || target?.type === "serials";
  const isOwn = isSerial && grants.some(({ body }) => body.authorities.includes(target.authority));
  return isOwn ? undefined : ["right_missing", "a node revokes only what its own authority signed"];
}

/** Its own JWT keys are a node's to say; what the whole trust domain trusts is the root's, or an issuing node could make another root. */
function judgeBundle(statement: Statement, context: RightContext): RightFault | undefined {
  if (isSuccession(statement)) return ["right_missing", "only a root speaks of the roots"];
  return judgeOwnWord(statement, context);
}

function judgeResource(statement: Statement, context: RightContext): RightFault | undefined {
  const { fault, grants } = findRole("operator", statement, context);
  if (fault !== undefined) return fault;
  const faults = grants.map((grant) => resourceFault(statement, grant));
  return faults.includes(undefined) ? undefined : faults[0];
}

/** Of an operator with limits the names count too: what stands under a key may be another's, and which word came first must not decide. */
function resourceFault(statement: Statement, { name: operator, body }: Grant<"operator">): RightFault | undefined {
  const [kind = ""] = statement.name.split("/", 1);
  if (!body.kinds.includes(kind)) return ["right_missing", `its author may say nothing of kind ${kind}`];
  const { groups, idPrefixes } = body;
  if (groups === undefined && idPrefixes === undefined) return undefined;
  const name = statement.name.slice(kind.length + 1);
  if (!name.startsWith(`${operator}.`)) {
    const remedy = `name it ${operator}.${name}`;
    return [
      "outside_names",
      `the rights of ${operator} have limits, so that its name has to begin with "${operator}.": ${remedy}`,
    ];
  }
  if (statement.isDeleted) return undefined;
  const scope = tryParseScope(statement.scope);
  if (groups !== undefined && !(scope?.type === "group" && groups.includes(scope.name))) {
    return ["outside_groups", `its author may speak to the groups ${groups.join(", ") || "(none)"} alone`];
  }
  return idPrefixes === undefined ? undefined : idFault(statement, idPrefixes);
}

function idFault(statement: Statement, idPrefixes: readonly string[]): RightFault | undefined {
  const { kind, ids } = readResourceClaim(statement);
  if (ids === "any") return ["outside_prefixes", `a ${kind} is about more than its author's IDs`];
  const outside = ids.find((id) => !covers(idPrefixes, id));
  return outside === undefined ? undefined : ["outside_prefixes", `its author may not speak of ${outside}`];
}

function judgeOwnWord(statement: Statement, { standing }: RightContext): RightFault | undefined {
  const grant = standing.grantOf("node", statement.name);
  if (grant === undefined) return ["author_unknown", `there is no node ${statement.name}`];
  if (grant.body.key !== keyHex(statement.author)) return ["right_missing", `it is not ${grant.name} that says so`];
  return standing.isSilenced("node", grant.name, statement.hash)
    ? ["author_revoked", `the node ${grant.name} is revoked`]
    : undefined;
}

/** A node says where workloads are that it may issue. */
function judgeEndpoint(statement: Statement, context: RightContext): RightFault | undefined {
  const fault = judgeOwnWord(statement, context);
  if (fault !== undefined || statement.isDeleted) return fault;
  const { idPrefixes } = context.standing.grantOf("node", statement.name)?.body ?? { idPrefixes: [] };
  const { endpoints }: EndpointBody = parseBody("endpoint", statement);
  const outside = endpoints.find(({ spiffeId }) => !isWithinPrefixes(spiffeId, idPrefixes));
  return outside === undefined
    ? undefined
    : ["outside_prefixes", `${statement.name} may not issue ${outside.spiffeId}`];
}

/** Whether all that a prefix (or a single ID) allows is allowed by one of `prefixes`. */
export function covers(prefixes: readonly string[], wanted: string): boolean {
  return prefixes.some((prefix) => (prefix.endsWith("/") ? wanted.startsWith(prefix) : wanted === prefix));
}
