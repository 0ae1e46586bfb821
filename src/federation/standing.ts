// Who may speak in the fleet: the roles of every key by what stands, and what still stands of a key that was revoked. Keeps no statement.
import { tryParseSerialSetName, tryParseTarget } from "../fleet.ts";
import { type SerialSet, serialOctets } from "../serial_set.ts";
import { type IssuerBody, type NodeBody, type OperatorBody, parseBody, type RevocationBody } from "./body.ts";
import { readSerialSet } from "./serial_set.ts";
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

/** A set of serial numbers that one authority has signed and its node has revoked. */
export interface RevokedSet {
  readonly statement: Statement;
  readonly set: SerialSet;
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
  /** Key identifier of an authority to the sets of its serial numbers, by the keys of their statements. */
  readonly #sets = new Map<string, Map<string, RevokedSet>>();

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

  /** Every node whose entry names an intermediate with this key identifier, by name: one, unless an issuing node says of another's that it is its own. */
  nodesOfAuthority(authority: string): Grant<"node">[] {
    const names = [...(this.#owners.get(authority) ?? [])].sort();
    return names.map((name) => this.#grants.node.get(name) as Grant<"node">);
  }

  /** What revokes the target, in the order of their hashes; empty when nothing does. */
  revocationsOf(target: string): RevokedRole[] {
    const found = [...(this.#revocations.get(target)?.values() ?? [])];
    return found.sort((a, b) => (a.statement.hash < b.statement.hash ? -1 : 1));
  }

  /** The sets in which a serial number of an authority is, in the order of their hashes. */
  setsWith({ authority, value }: { readonly authority: string; readonly value: string }): RevokedSet[] {
    const sets = this.#sets.get(authority);
    const octets = sets === undefined ? undefined : serialOctets(value);
    if (sets === undefined || octets === undefined) return [];
    const found = [...sets.values()].filter(({ set }) => set.has(octets));
    return found.sort((a, b) => (a.statement.hash < b.statement.hash ? -1 : 1));
  }

  /** Sets of serial numbers of these authorities. */
  setsOf(authorities: readonly string[]): RevokedSet[] {
    return authorities.flatMap((authority) => [...(this.#sets.get(authority)?.values() ?? [])]);
  }

  /**
   * Whether a revocation of one serial number is needless: a set of the same author (this one, where a key is given) says it for as long. What another
   * has revoked stands beside it, because nobody's revocation takes the place of another's.
   */
  isCovered({ kind, name, authorId, expiresAt }: Statement, key?: string): boolean {
    const target = kind === "revocation" && expiresAt !== 0 ? tryParseTarget(name) : undefined;
    const octets = target?.type === "serial" ? serialOctets(target.value) : undefined;
    if (target?.type !== "serial" || octets === undefined) return false;
    const sets = this.#sets.get(target.authority);
    const asked = key === undefined ? [...(sets?.values() ?? [])] : [sets?.get(key)];
    return asked.some(
      (found) => found?.statement.authorId === authorId && found.set.end >= expiresAt && found.set.has(octets),
    );
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
    const authority = tryParseSerialSetName(statement.name)?.authority;
    if (authority !== undefined) {
      const sets = this.#sets.get(authority) ?? new Map<string, RevokedSet>();
      this.#sets.set(authority, sets.set(statement.key, { statement, set: readSerialSet(statement) }));
      return [];
    }
    const target = targetOf(statement);
    const found = this.#revocations.get(target) ?? new Map<string, RevokedRole>();
    this.#revocations.set(target, found.set(statement.key, { statement, body: parseBody("revocation", statement) }));
    return this.#keysOf(target);
  }

  #removeRevocation(statement: Statement): string[] {
    const authority = tryParseSerialSetName(statement.name)?.authority;
    if (authority !== undefined) {
      const sets = this.#sets.get(authority);
      sets?.delete(statement.key);
      if (sets?.size === 0) this.#sets.delete(authority);
      return [];
    }
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
