// The journal of the tokens that this node signed, JWT-SVIDs and WIT-SVIDs, in SQLite. Holds no token: what it says of one cannot be shown to anybody.

import type { Store } from "../store.ts";

/** As CONTEXT_MAX of the X.509 journal. */
const CONTEXT_MAX = 64 * 1024;
/** Long enough to look into last month. */
const RETENTION_SECONDS = 30 * 24 * 3600;
const PRUNE_EVERY = 1000;

/** Steps that were applied are never edited. */
const MIGRATIONS = [
  `CREATE TABLE ca_jwt_svid (
     jti TEXT PRIMARY KEY, spiffe_id TEXT NOT NULL, audience TEXT NOT NULL, kid TEXT NOT NULL,
     signed_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, context TEXT NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE INDEX ca_jwt_svid_end ON ca_jwt_svid (expires_at);`,
  "ALTER TABLE ca_jwt_svid ADD COLUMN kind TEXT NOT NULL DEFAULT 'jwt'",
  // Rows are appended in the order of signing, without an index: two trees to keep were half the cost of an entry.
  `ALTER TABLE ca_jwt_svid RENAME TO ca_jwt_svid_of_before;
   CREATE TABLE ca_jwt_svid (
     jti TEXT NOT NULL, spiffe_id TEXT NOT NULL, audience TEXT NOT NULL, kid TEXT NOT NULL,
     signed_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, context TEXT NOT NULL, kind TEXT NOT NULL
   ) STRICT;
   INSERT INTO ca_jwt_svid SELECT jti, spiffe_id, audience, kid, signed_at, expires_at, context, kind
     FROM ca_jwt_svid_of_before ORDER BY signed_at, jti;
   DROP TABLE ca_jwt_svid_of_before;`,
];

export type TokenKind = "jwt" | "wit";

/** Times in seconds since the epoch. */
export interface TokenEntry {
  readonly kind: TokenKind;
  readonly tokenId: string;
  readonly spiffeId: string;
  /** Empty for a WIT-SVID, which has none. */
  readonly audience: readonly string[];
  readonly keyId: string;
  readonly issuedAt: number;
  readonly expiresAt: number;
  /** Goes in as JSON: for whom and why. */
  readonly context: Record<string, unknown>;
}

interface Row {
  jti: string;
  spiffe_id: string;
  audience: string;
  kid: string;
  signed_at: number;
  expires_at: number;
  context: string;
  kind: string;
}

export interface TokenRecord extends Omit<TokenEntry, "context"> {
  readonly context: string;
}

export interface TokenJournal {
  /** All of them or none, committed when it returns (inside a caller's transaction: with it). */
  write(entries: readonly TokenEntry[]): void;
  /** Those that were signed last first. */
  latest(limit: number, only?: { readonly spiffeId?: string; readonly kind?: TokenKind }): readonly TokenRecord[];
}

export function openTokenJournal(store: Store): TokenJournal {
  store.migrate("ca_jwt", MIGRATIONS);
  const insert = store.prepare("INSERT INTO ca_jwt_svid VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
  // No further than to the first that is to be kept; one that a clock signed which was ahead must not hold up the others.
  const prune = store.prepare(
    `DELETE FROM ca_jwt_svid WHERE expires_at < ?1
       AND rowid < (SELECT rowid FROM ca_jwt_svid WHERE expires_at >= ?1 AND signed_at <= ?2 ORDER BY rowid LIMIT 1)`,
  );
  const latest = store.prepare<Row>(
    `SELECT * FROM ca_jwt_svid WHERE (?2 = '' OR spiffe_id = ?2) AND (?3 = '' OR kind = ?3)
      ORDER BY rowid DESC LIMIT ?1`,
  );
  const add = ({ kind, spiffeId, audience, tokenId, issuedAt, expiresAt, keyId, context }: TokenEntry) => {
    const text = JSON.stringify(context);
    if (text.length > CONTEXT_MAX)
      throw new RangeError(`the journal takes ${CONTEXT_MAX} characters of context, and this is ${text.length}`);
    insert.run(tokenId, spiffeId, JSON.stringify(audience), keyId, issuedAt, expiresAt, text, kind);
  };
  let unpruned = 0;
  return {
    write(entries) {
      const [first] = entries;
      if (first === undefined) return;
      if (entries.length === 1) add(first);
      else store.transaction(() => entries.forEach(add));
      unpruned += entries.length;
      if (unpruned < PRUNE_EVERY) return;
      unpruned = 0;
      prune.run(first.issuedAt - RETENTION_SECONDS, first.issuedAt);
    },
    latest: (limit, { spiffeId = "", kind = "" } = {}) => latest.all(limit, spiffeId, kind).map(recordOf),
  };
}

function recordOf(row: Row): TokenRecord {
  return {
    kind: row.kind === "wit" ? "wit" : "jwt",
    tokenId: row.jti,
    spiffeId: row.spiffe_id,
    audience: JSON.parse(row.audience),
    keyId: row.kid,
    issuedAt: row.signed_at,
    expiresAt: row.expires_at,
    context: row.context,
  };
}
