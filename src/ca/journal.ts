// The journal of everything this node's keys signed and revoked, in SQLite. Rows are only added, and leave a day after the certificate has ended.
import type { Store, StoreStatement } from "../store.ts";
import { firstSerial, SVID_LIFETIME_MAX_MS } from "./svid.ts";

/** How long an entry outlives its certificate: time enough to look into yesterday. */
export const JOURNAL_RETENTION_MS = 24 * 3600 * 1000;
/** Rows removed in one pruning step at most, and how many issued SVIDs pay for one: twice as many can leave as come. */
const PRUNE_ROWS = 512;
const PRUNE_EVERY = 256;
/** Serial numbers in one reading: a million rows at once would be a hundred megabytes. */
const SERIALS_AT_ONCE = 8192;

/** Steps that were applied are never edited. Keyed by serial alone: serials grow with time, so that a row costs one page at the end of one tree. */
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

/** As it was signed, and what became of it: null while it is not revoked. */
export interface SvidRecord extends SvidEntry {
  readonly reason: string | null;
  readonly revokedAt: number | null;
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

export interface RevocationEntry {
  readonly serial: Uint8Array;
  readonly reason: string;
  readonly revokedAt: number;
  /** When the certificate ends; the entry stays a day longer. */
  readonly keepUntil: number;
}

export interface RevokedCertificate {
  readonly serial: Uint8Array;
  readonly reason: string;
  readonly revokedAt: number;
}

export class Journal {
  readonly #store: Store;
  readonly #insert: StoreStatement<never>;
  readonly #revoked: StoreStatement<{ found: number }>;
  #unpruned = 0;

  constructor(store: Store) {
    store.migrate("ca", MIGRATIONS);
    this.#store = store;
    this.#insert = store.prepare("INSERT INTO ca_svid VALUES (?, ?, ?, ?, ?, ?, ?)");
    this.#revoked = store.prepare("SELECT 1 AS found FROM ca_revocation WHERE serial = ?");
  }

  /** All of them or none, committed when it returns (inside a caller's transaction: with it); throws when a serial was used before. */
  addSvids(entries: readonly SvidEntry[]): void {
    const [first] = entries;
    if (first === undefined) return;
    if (entries.length === 1) this.#addSvid(first);
    else {
      this.#store.transaction(() => {
        for (const entry of entries) this.#addSvid(entry);
      });
    }
    this.#unpruned += entries.length;
    if (this.#unpruned < PRUNE_EVERY) return;
    this.#unpruned = 0;
    this.prune(first.signedAt);
  }

  #addSvid({ serial, spiffeId, issuer, notBefore, notAfter, signedAt, context }: SvidEntry): void {
    this.#insert.run(serial, spiffeId, issuer, notBefore, notAfter, signedAt, context);
  }

  /** For a question and the entry that rests on its answer. */
  transaction<T>(work: () => T): T {
    return this.#store.transaction(work);
  }

  addAuthority(entry: AuthorityEntry): void {
    const { serial, kind, node, keyId, notBefore, notAfter, signedAt, context } = entry;
    this.#store
      .prepare("INSERT INTO ca_authority VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
      .run(serial, kind, node, keyId, notBefore, notAfter, signedAt, context);
  }

  /** Intermediates for this node name that have neither ended nor been revoked. */
  liveIntermediates(node: string, now: number): { serial: Uint8Array; keyId: Uint8Array; notAfter: number }[] {
    const sql = `SELECT serial, key_id AS keyId, not_after AS notAfter FROM ca_authority WHERE kind = 'intermediate' AND node = ? AND not_after > ?
      AND serial NOT IN (SELECT serial FROM ca_revocation)`;
    return this.#store.prepare<{ serial: Uint8Array; keyId: Uint8Array; notAfter: number }>(sql).all(node, now);
  }

  /** Names of nodes whose latest intermediate was signed in that time, and has neither ended nor been revoked. */
  liveNodes(now: number, signed: { from: number; until: number }): string[] {
    const sql = `SELECT DISTINCT node FROM ca_authority WHERE kind = 'intermediate' AND not_after > ? AND signed_at BETWEEN ? AND ?
      AND serial NOT IN (SELECT serial FROM ca_revocation)
      AND node NOT IN (SELECT node FROM ca_authority WHERE kind = 'intermediate' AND signed_at > ?3
        AND serial NOT IN (SELECT serial FROM ca_revocation)) ORDER BY node`;
    return this.#store
      .prepare<{ node: string }>(sql)
      .all(now, signed.from, signed.until)
      .map(({ node }) => node);
  }

  /** SVIDs for an ID that have neither ended nor been revoked. */
  liveSvids(spiffeId: string, now: number): { serial: Uint8Array; notAfter: number }[] {
    const sql = `SELECT serial, not_after AS notAfter FROM ca_svid WHERE serial >= ? AND spiffe_id = ? AND not_after > ?
      AND serial NOT IN (SELECT serial FROM ca_revocation)`;
    // No SVID lives longer than the bound: what may live was signed since then.
    const oldest = firstSerial(now - SVID_LIFETIME_MAX_MS - 60_000);
    return this.#store.prepare<{ serial: Uint8Array; notAfter: number }>(sql).all(oldest, spiffeId, now);
  }

  /** SVIDs of one issuer that are revoked and have not ended, by their serials. */
  revokedUnder(issuer: Uint8Array, now: number): RevokedCertificate[] {
    const sql = `SELECT serial, reason, revoked_at AS revokedAt FROM ca_revocation JOIN ca_svid USING (serial)
      WHERE issuer = ? AND not_after > ? ORDER BY serial`;
    return this.#store.prepare<RevokedCertificate>(sql).all(issuer, now);
  }

  /** Serial numbers of one issuer's SVIDs that have not ended, revoked or not, one after the other in ascending order: those after `after` and below `below`. */
  serialsUnder(issuer: Uint8Array, range: { after: Uint8Array; below: Uint8Array; now: number }): Uint8Array {
    const sql = `SELECT serial FROM ca_svid WHERE serial > ? AND serial < ? AND issuer = ? AND not_after > ? ORDER BY serial LIMIT ${SERIALS_AT_ONCE}`;
    const page = this.#store.prepare<{ serial: Uint8Array }>(sql);
    const pages: Uint8Array[] = [];
    let { after } = range;
    for (;;) {
      const rows = page.all(after, range.below, issuer, range.now);
      const last = rows.at(-1);
      if (last === undefined) return new Uint8Array(Buffer.concat(pages));
      pages.push(Buffer.concat(rows.map(({ serial }) => serial)));
      after = last.serial;
    }
  }

  /** Whether an authority with this key was ever signed here. */
  hasAuthorityKey(keyId: Uint8Array): boolean {
    return this.#store.prepare("SELECT 1 FROM ca_authority WHERE key_id = ?").get(keyId) !== undefined;
  }

  /** Whether an intermediate with this key was signed here for a node that came with this join token. */
  hasTokenKey(keyId: Uint8Array, { node, token }: { readonly node: string; readonly token: string }): boolean {
    const sql = `SELECT 1 FROM ca_authority WHERE key_id = ? AND node = ? AND kind = 'intermediate'
      AND json_extract(context, '$.token') = ?`;
    return this.#store.prepare(sql).get(keyId, node, token) !== undefined;
  }

  /** Of the authorities with this key that were signed here. */
  serialsOfKey(keyId: Uint8Array): Uint8Array[] {
    const sql = "SELECT serial FROM ca_authority WHERE key_id = ? AND kind = 'intermediate'";
    return this.#store
      .prepare<{ serial: Uint8Array }>(sql)
      .all(keyId)
      .map(({ serial }) => serial);
  }

  /** What was signed under a serial number, if it is in the journal. */
  findSvid(serial: Uint8Array): SvidRecord | undefined {
    const sql = `SELECT serial, spiffe_id AS spiffeId, issuer, not_before AS notBefore, not_after AS notAfter, signed_at AS signedAt, context,
      reason, revoked_at AS revokedAt FROM ca_svid LEFT JOIN ca_revocation USING (serial) WHERE serial = ?`;
    return this.#store.prepare<SvidRecord>(sql).get(serial);
  }

  /** When the certificate ends, if it is in the journal. */
  notAfterOf(serial: Uint8Array): number | undefined {
    const sql =
      "SELECT not_after FROM ca_svid WHERE serial = ?1 UNION ALL SELECT not_after FROM ca_authority WHERE serial = ?1";
    return this.#store.prepare<{ not_after: number }>(sql).get(serial)?.not_after;
  }

  /** The latest first. */
  latestSvids(limit: number, spiffeId = ""): SvidRecord[] {
    const sql = `SELECT serial, spiffe_id AS spiffeId, issuer, not_before AS notBefore, not_after AS notAfter, signed_at AS signedAt, context,
      reason, revoked_at AS revokedAt FROM ca_svid LEFT JOIN ca_revocation USING (serial)
      WHERE ?2 = '' OR spiffe_id = ?2 ORDER BY serial DESC LIMIT ?1`;
    return this.#store.prepare<SvidRecord>(sql).all(limit, spiffeId);
  }

  /** False when it was revoked before: the first reason stays. */
  addRevocation({ serial, reason, revokedAt, keepUntil }: RevocationEntry): boolean {
    const sql = "INSERT INTO ca_revocation VALUES (?, ?, ?, ?) ON CONFLICT (serial) DO NOTHING";
    return this.#store.prepare(sql).run(serial, reason, revokedAt, keepUntil) === 1;
  }

  isRevoked(serial: Uint8Array): boolean {
    return this.#revoked.get(serial) !== undefined;
  }

  counts(): { svids: number; authorities: number; revocations: number } {
    const count = (table: string) =>
      this.#store.prepare<{ n: number }>(`SELECT count(*) AS n FROM ${table}`).get()?.n ?? 0;
    return { svids: count("ca_svid"), authorities: count("ca_authority"), revocations: count("ca_revocation") };
  }

  /** One bounded step, oldest first. Returns how many entries left. */
  prune(now: number): number {
    // No SVID lives longer than the bound, so that all to remove lie below one serial. The end is asked too: serials go round, and clocks are set.
    const ended = now - JOURNAL_RETENTION_MS;
    const oldest = firstSerial(ended - SVID_LIFETIME_MAX_MS);
    const svids =
      "DELETE FROM ca_svid WHERE serial IN (SELECT serial FROM ca_svid WHERE serial < ? AND not_after < ? LIMIT ?)";
    const revocations =
      "DELETE FROM ca_revocation WHERE serial IN (SELECT serial FROM ca_revocation WHERE keep_until < ? LIMIT ?)";
    return this.#store.transaction(
      () =>
        this.#store.prepare(svids).run(oldest, ended, PRUNE_ROWS) +
        this.#store.prepare(revocations).run(ended, PRUNE_ROWS),
    );
  }
}
