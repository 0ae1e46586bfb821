// The journal of everything this node's keys signed and revoked, in SQLite. Rows are only added, and leave a day after the certificate has ended.
import type { Store, StoreStatement } from "../store.ts";

/** How long an entry outlives its certificate: time enough to look into yesterday. */
export const JOURNAL_RETENTION_MS = 24 * 3600 * 1000;
/** Rows looked at in one pruning step, and how many issued SVIDs pay for one: twice as many are looked at as are added. */
const PRUNE_ROWS = 512;
const PRUNE_EVERY = 256;

/** Steps that were applied are never edited. Keyed by serial alone: random serials in one tree cost one page a row, an index would cost two. */
const MIGRATIONS = [
  `CREATE TABLE ca_svid (
     serial BLOB PRIMARY KEY, spiffe_id TEXT NOT NULL, issuer BLOB NOT NULL, not_before INTEGER NOT NULL, not_after INTEGER NOT NULL,
     signed_at INTEGER NOT NULL, context TEXT NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE ca_authority (
     serial BLOB PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('root', 'intermediate')), node TEXT NOT NULL, key_id BLOB NOT NULL,
     not_before INTEGER NOT NULL, not_after INTEGER NOT NULL, signed_at INTEGER NOT NULL, context TEXT NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE ca_revocation (
     serial BLOB PRIMARY KEY, reason TEXT NOT NULL, revoked_at INTEGER NOT NULL, keep_until INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE INDEX ca_revocation_by_end ON ca_revocation (keep_until);
   CREATE TRIGGER ca_svid_is_append_only BEFORE UPDATE ON ca_svid BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
   CREATE TRIGGER ca_authority_is_append_only BEFORE UPDATE ON ca_authority BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
   CREATE TRIGGER ca_revocation_is_append_only BEFORE UPDATE ON ca_revocation BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;`,
];

/** Times in milliseconds since the epoch. */
export interface SvidEntry {
  readonly serial: Uint8Array;
  readonly spiffeId: string;
  /** Key identifier of the issuer. */
  readonly issuer: Uint8Array;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly signedAt: number;
  /** JSON: for whom and why. */
  readonly context: string;
}

export interface AuthorityEntry {
  readonly serial: Uint8Array;
  readonly kind: "root" | "intermediate";
  readonly node: string;
  readonly keyId: Uint8Array;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly signedAt: number;
  readonly context: string;
}

interface SvidRow {
  serial: Uint8Array;
  spiffe_id: string;
  not_after: number;
}

export class Journal {
  readonly #store: Store;
  readonly #insert: StoreStatement<never>;
  readonly #revoked: StoreStatement<{ found: number }>;
  #added = 0;
  #cursor: Uint8Array = new Uint8Array(0);

  constructor(store: Store) {
    store.migrate("ca", MIGRATIONS);
    this.#store = store;
    this.#insert = store.prepare("INSERT INTO ca_svid VALUES (?, ?, ?, ?, ?, ?, ?)");
    this.#revoked = store.prepare("SELECT 1 AS found FROM ca_revocation WHERE serial = ?");
  }

  /** Committed when it returns; throws when the serial was used before. */
  addSvid(entry: SvidEntry): void {
    const { serial, spiffeId, issuer, notBefore, notAfter, signedAt, context } = entry;
    this.#insert.run(serial, spiffeId, issuer, notBefore, notAfter, signedAt, context);
    this.#added += 1;
    if (this.#added % PRUNE_EVERY === 0) this.prune(signedAt);
  }

  addAuthority(entry: AuthorityEntry): void {
    const { serial, kind, node, keyId, notBefore, notAfter, signedAt, context } = entry;
    this.#store
      .prepare("INSERT INTO ca_authority VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
      .run(serial, kind, node, keyId, notBefore, notAfter, signedAt, context);
  }

  /** Intermediates for this node name that have neither ended nor been revoked. */
  liveIntermediates(node: string, now: number): Uint8Array[] {
    const sql = `SELECT serial FROM ca_authority WHERE kind = 'intermediate' AND node = ? AND not_after > ?
      AND serial NOT IN (SELECT serial FROM ca_revocation)`;
    return this.#store
      .prepare<{ serial: Uint8Array }>(sql)
      .all(node, now)
      .map((row) => row.serial);
  }

  /** Whether an authority with this key was ever signed here. */
  hasAuthorityKey(keyId: Uint8Array): boolean {
    return this.#store.prepare("SELECT 1 FROM ca_authority WHERE key_id = ?").get(keyId) !== undefined;
  }

  /** When the certificate ends, if it is in the journal. */
  notAfterOf(serial: Uint8Array): number | undefined {
    const sql =
      "SELECT not_after FROM ca_svid WHERE serial = ?1 UNION ALL SELECT not_after FROM ca_authority WHERE serial = ?1";
    return this.#store.prepare<{ not_after: number }>(sql).get(serial)?.not_after;
  }

  /** False when it was revoked before: the first reason stays. */
  addRevocation(serial: Uint8Array, reason: string, at: number, keepUntil: number): boolean {
    const sql = "INSERT INTO ca_revocation VALUES (?, ?, ?, ?) ON CONFLICT (serial) DO NOTHING";
    return this.#store.prepare(sql).run(serial, reason, at, keepUntil) === 1;
  }

  isRevoked(serial: Uint8Array): boolean {
    return this.#revoked.get(serial) !== undefined;
  }

  counts(): { svids: number; authorities: number; revocations: number } {
    const count = (table: string) =>
      this.#store.prepare<{ n: number }>(`SELECT count(*) AS n FROM ${table}`).get()?.n ?? 0;
    return { svids: count("ca_svid"), authorities: count("ca_authority"), revocations: count("ca_revocation") };
  }

  /** One bounded step: looks at the next rows in order of serial and removes those that ended long enough ago. */
  prune(now: number): number {
    const ended = now - JOURNAL_RETENTION_MS;
    return this.#store.transaction(() => {
      const rows = this.#store
        .prepare<SvidRow>("SELECT serial, not_after FROM ca_svid WHERE serial > ? ORDER BY serial LIMIT ?")
        .all(this.#cursor, PRUNE_ROWS);
      this.#cursor = rows.length < PRUNE_ROWS ? new Uint8Array(0) : (rows.at(-1)?.serial ?? new Uint8Array(0));
      const remove = this.#store.prepare("DELETE FROM ca_svid WHERE serial = ?");
      const old = rows.filter((row) => row.not_after < ended);
      for (const row of old) remove.run(row.serial);
      const revocations =
        "DELETE FROM ca_revocation WHERE serial IN (SELECT serial FROM ca_revocation WHERE keep_until < ? LIMIT ?)";
      return old.length + this.#store.prepare(revocations).run(ended, PRUNE_ROWS);
    });
  }
}
