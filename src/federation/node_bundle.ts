// What nodes say of their own trust bundles: the keys under which each signs JWT-SVIDs, so that a token of one node is taken on all. Pure.
import { TrustDomain } from "../spiffe_id.ts";
import { type JwtKey, parseTrustBundle, writeTrustBundle } from "../trust_bundle.ts";
import type { RosterState } from "./roster.ts";
import { DOMAIN_BUNDLE, type Statement } from "./statement.ts";

/** A key that signs, the next and the last, for both algorithms. */
export const NODE_KEYS_MAX = 8;

/** The body of a node's own bundle statement: a SPIFFE bundle of its JWT keys alone. */
export function writeNodeKeys(trustDomain: string, jwt: readonly JwtKey[]): Uint8Array {
  const bundle = { trustDomain: TrustDomain.parse(trustDomain), x509: [], jwt: jwt.slice(0, NODE_KEYS_MAX) };
  return new Uint8Array(
    Buffer.from(writeTrustBundle({ ...bundle, sequence: undefined, refreshHintSeconds: undefined })),
  );
}

/**
 * The JWT keys of every other node that may issue any ID of the trust domain. A JWT-SVID names no node, so that a key of a node with narrower
 * prefixes would speak for IDs that are not its own: such a node's tokens are good where it is alone.
 */
export function listNodeKeys(state: RosterState, options: { trustDomain: string; except: string }): readonly JwtKey[] {
  const everything = `spiffe://${options.trustDomain}/`;
  const found = new Map<string, JwtKey>();
  const said = state.list("bundle").filter(({ name, isDeleted }) => !isDeleted && name !== DOMAIN_BUNDLE);
  for (const statement of [...said].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const prefixes = state.standing.grantOf("node", statement.name)?.body.idPrefixes ?? [];
    if (statement.name === options.except || !prefixes.includes(everything)) continue;
    // Of two keys of one name the first stands: a bundle that has a name twice is refused by every reader.
    for (const key of readNodeKeys(statement)) if (!found.has(key.keyId)) found.set(key.keyId, key);
  }
  return [...found.values()];
}

/** Nothing for what cannot be read: whoever says so harms himself alone. */
function readNodeKeys(statement: Statement): readonly JwtKey[] {
  const known = READ.get(statement);
  if (known !== undefined) return known;
  const keys = tryRead(statement);
  READ.set(statement, keys);
  return keys;
}

/** A statement never changes, and goes when it stands no more. */
const READ = new WeakMap<Statement, readonly JwtKey[]>();

function tryRead({ body, trustDomain }: Statement): readonly JwtKey[] {
  try {
    const { jwt } = parseTrustBundle(Buffer.from(body).toString("utf8"), TrustDomain.parse(trustDomain));
    return jwt.slice(0, NODE_KEYS_MAX);
  } catch {
    return [];
  }
}
