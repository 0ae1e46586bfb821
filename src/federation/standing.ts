// Who may speak in the fleet: the roles of every key by what stands, and what still stands of a key that was revoked. Keeps no statement.
import { tryParseTarget } from "../fleet.ts";
import { type IssuerBody, type NodeBody, type OperatorBody, parseBody, type RevocationBody } from "./body.ts";
import type { Statement } from "./statement.ts";

/** Roles that the root or an issuing node gives to a key. A node's own role is found by its name: it speaks of itself. */
const ROLES = ["issuer", "operator", "node"] as const;
export type Role = (typeof ROLES)[number];

interface Bodies {
  readonly issuer: IssuerBody;
  readonly operator: OperatorBody;
  readonly node: NodeBody;
}

/** One grant of a role that stands. */
export interface Grant<R extends Role = Role> {
  readonly name: string;
  readonly body: Bodies[R];
  readonly statement: Statement;
}

/** What is said against a name in a role; `keeps` says whether a hash is among what still stands. */
export interface RevokedRole {
  readonly statement: Statement;
  readonly body: RevocationBody;
}

type Grants = { readonly [R in Role]: Map<string, Grant<R>> };

export class Standing {
  readonly #grants: Grants = { issuer: new Map(), operator: new Map(), node: new Map() };
  /** `role key` to names: one key may have had two. */
  readonly #names = new Map<string, Set<string>>();
  /** Key identifier of an intermediate to the names of nodes that have it. */
  readonly #owners = new Map<string, Set<string>>();
  /** `role:name` or any other target to the statements that revoke it, by their keys. */
  readonly #revocations = new Map<string, Map<string, RevokedRole>>();

  grantOf<R extends Role>(role: R, name: string): Grant<R> | undefined {
    return this.#grants[role].get(name);
  }

  grants<R extends Role>(role: R): Iterable<Grant<R>> {
    return this.#grants[role].values();
  }

  /** Every grant of this role that the key has, by name. */
  grantsOfKey<R extends Role>(role: R, key: string): Grant<R>[] {
    const names = [...(this.#names.get(`${role} ${key}`) ?? [])].sort();
    return names.map((name) => this.#grants[role].get(name) as Grant<R>);
  }

  /** The node whose intermediate has this key identifier; of several the first by name. */
  nodeOfAuthority(authority: string): Grant<"node"> | undefined {
    const [name] = [...(this.#owners.get(authority) ?? [])].sort();
    return name === undefined ? undefined : this.#grants.node.get(name);
  }

  /** What revokes the target, in the order of their hashes; empty when nothing does. */
  revocationsOf(target: string): RevokedRole[] {
    const found = [...(this.#revocations.get(target)?.values() ?? [])];
    return found.sort((a, b) => (a.statement.hash < b.statement.hash ? -1 : 1));
  }

  /** Whether a name in a role may no longer say this. Of several revocations each must keep it. */
  isSilenced(role: Role, name: string, hash: string): boolean {
    const found = this.#revocations.get(`${role}:${name}`);
    if (found === undefined) return false;
    return [...found.values()].some(({ body }) => !body.keep.includes(hash.slice(0, 32)));
  }

  /** Takes note of a statement that stands. Answers the keys whose words must be judged again. */
  add(statement: Statement): string[] {
    if (statement.isDeleted) return [];
    if (statement.kind === "revocation") return this.#addRevocation(statement);
    const role = ROLES.find((name) => name === statement.kind);
    if (role === undefined) return [];
    const body = parseBody(role, statement);
    this.#grants[role].set(statement.name, { name: statement.name, body, statement } as never);
    note(this.#names, `${role} ${body.key}`, statement.name);
    if ("authorities" in body) for (const id of body.authorities) note(this.#owners, id, statement.name);
    return [body.key];
  }

  /** Forgets one that stands no more. Answers the keys whose words must be judged again. */
  remove(statement: Statement): string[] {
    if (statement.isDeleted) return [];
    if (statement.kind === "revocation") return this.#removeRevocation(statement);
    const role = ROLES.find((name) => name === statement.kind);
    const grant = role === undefined ? undefined : this.#grants[role].get(statement.name);
    if (role === undefined || grant === undefined) return [];
    this.#grants[role].delete(statement.name);
    const { body } = grant;
    forget(this.#names, `${role} ${body.key}`, statement.name);
    if ("authorities" in body) for (const id of body.authorities) forget(this.#owners, id, statement.name);
    return [body.key];
  }

  #addRevocation(statement: Statement): string[] {
    const target = targetOf(statement);
    const found = this.#revocations.get(target) ?? new Map<string, RevokedRole>();
    this.#revocations.set(target, found.set(statement.key, { statement, body: parseBody("revocation", statement) }));
    return this.#keysOf(target);
  }

  #removeRevocation(statement: Statement): string[] {
    const target = targetOf(statement);
    const found = this.#revocations.get(target);
    found?.delete(statement.key);
    if (found?.size === 0) this.#revocations.delete(target);
    return this.#keysOf(target);
  }

  #keysOf(target: string): string[] {
    const parsed = tryParseTarget(target);
    const role = ROLES.find((name) => name === parsed?.type);
    if (role === undefined || parsed === undefined) return [];
    const grant = this.#grants[role].get(parsed.value);
    return grant === undefined ? [] : [grant.body.key];
  }
}

function note(names: Map<string, Set<string>>, id: string, name: string): void {
  names.set(id, (names.get(id) ?? new Set()).add(name));
}

function forget(names: Map<string, Set<string>>, id: string, name: string): void {
  const found = names.get(id);
  found?.delete(name);
  if (found?.size === 0) names.delete(id);
}

/** The name of a revocation is its target. */
function targetOf(statement: Pick<Statement, "name">): string {
  return statement.name;
}
