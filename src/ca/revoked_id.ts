// SPIFFE IDs that are revoked as such, in SQLite: nothing is signed for them here, and no peer is taken that shows one. Until somebody lifts it.

import type { Store, StoreStatement } from "../store.ts";

const MIGRATIONS = [
  "CREATE TABLE ca_revoked_id (spiffe_id TEXT PRIMARY KEY, reason TEXT NOT NULL, revoked_at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
];

export interface RevokedId {
  readonly spiffeId: string;
  readonly reason: string;
  /** Milliseconds since the epoch. */
  readonly revokedAt: number;
}

export class RevokedIds {
  readonly #store: Store;
  readonly #find: StoreStatement<{ reason: string }>;
  readonly #any: StoreStatement<{ found: number }>;

  constructor(store: Store) {
    store.migrate("ca_revoked_id", MIGRATIONS);
    this.#store = store;
    this.#any = store.prepare("SELECT 1 AS found FROM ca_revoked_id LIMIT 1");
    this.#find = store.prepare("SELECT reason FROM ca_revoked_id WHERE spiffe_id = ?");
  }

  get isEmpty(): boolean {
    return this.#any.get() === undefined;
  }

  /** Why, or undefined when it is not revoked. */
  reasonOf(spiffeId: string): string | undefined {
    return this.#find.get(spiffeId)?.reason;
  }

  /** False when it was revoked before: the first reason stays. */
  add({ spiffeId, reason, revokedAt }: RevokedId): boolean {
    const sql = "INSERT INTO ca_revoked_id VALUES (?, ?, ?) ON CONFLICT (spiffe_id) DO NOTHING";
    return this.#store.prepare(sql).run(spiffeId, reason, revokedAt) === 1;
  }

  /** False when it was not revoked. */
  remove(spiffeId: string): boolean {
    return this.#store.prepare("DELETE FROM ca_revoked_id WHERE spiffe_id = ?").run(spiffeId) === 1;
  }

  list(): readonly RevokedId[] {
    const sql = "SELECT spiffe_id AS spiffeId, reason, revoked_at AS revokedAt FROM ca_revoked_id ORDER BY spiffe_id";
    return this.#store.prepare<RevokedId>(sql).all();
  }
}
