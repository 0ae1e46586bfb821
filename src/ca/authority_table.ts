// The authorities of this node's trust domain in SQLite: where each is in its life, and an account of every step. Keeps no key.

import { RiprapError } from "../error.ts";
import type { Store } from "../store.ts";
import type { AuthorityKind, AuthorityPhase, AuthorityRecord } from "./life_cycle.ts";

/** Steps that were applied are never edited. `epoch` grows when SVIDs must be made anew, `generation` with every change. */
const MIGRATIONS = [
  `CREATE TABLE ca_key (
     id TEXT PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('x509', 'jwt', 'wit')),
     phase TEXT NOT NULL CHECK (phase IN ('prepared', 'published', 'active', 'retired', 'revoked')),
     algorithm TEXT NOT NULL, material BLOB NOT NULL, key_name TEXT NOT NULL, chain BLOB NOT NULL, not_after INTEGER NOT NULL,
     prepared_at INTEGER NOT NULL, published_at INTEGER, activated_at INTEGER, retired_at INTEGER, tainted_at INTEGER, revoked_at INTEGER
   ) STRICT;
   CREATE UNIQUE INDEX ca_key_one_signs ON ca_key (kind) WHERE phase = 'active';
   CREATE TABLE ca_key_event (
     at INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, event TEXT NOT NULL, forced INTEGER NOT NULL, reason TEXT NOT NULL
   ) STRICT;
   CREATE TRIGGER ca_key_event_is_append_only BEFORE UPDATE ON ca_key_event BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
   CREATE TABLE ca_key_change (id INTEGER PRIMARY KEY CHECK (id = 1), generation INTEGER NOT NULL, epoch INTEGER NOT NULL) STRICT;
   INSERT INTO ca_key_change VALUES (1, 0, 0);`,
  "CREATE TABLE ca_node_key (point BLOB PRIMARY KEY, key_name TEXT NOT NULL) STRICT, WITHOUT ROWID",
  "CREATE TABLE ca_told_root (id TEXT PRIMARY KEY, has_fallen INTEGER NOT NULL) STRICT, WITHOUT ROWID",
];
const EVENTS_MAX = 1000;

interface Row {
  id: string;
  kind: AuthorityKind;
  phase: AuthorityPhase;
  algorithm: "ES256" | "RS256";
  material: Uint8Array;
  key_name: string;
  chain: Uint8Array;
  not_after: number;
  prepared_at: number;
  published_at: number | null;
  activated_at: number | null;
  retired_at: number | null;
  tainted_at: number | null;
  revoked_at: number | null;
}

export interface AuthorityEvent {
  readonly at: number;
  readonly id: string;
  readonly kind: AuthorityKind;
  /** `prepared`, `published`, `activated`, `retired`, `tainted`, `revoked`, `renewed`, `certified` */
  readonly event: string;
  readonly forced: boolean;
  readonly reason: string;
}

/** A change and the account of it. */
export interface Occasion {
  readonly at: number;
  readonly forced?: boolean;
  readonly reason?: string;
}

export class AuthorityTable {
  readonly #store: Store;

  constructor(store: Store) {
    store.migrate("ca_key", MIGRATIONS);
    this.#store = store;
  }

  transaction<T>(work: () => T): T {
    return this.#store.transaction(work);
  }

  /** Those of one kind, or all; in the order in which they were published, the unpublished last. */
  list(kind?: AuthorityKind): readonly AuthorityRecord[] {
    const sql = "SELECT * FROM ca_key WHERE ?1 = '' OR kind = ?1 ORDER BY published_at IS NULL, published_at, rowid";
    return this.#store
      .prepare<Row>(sql)
      .all(kind ?? "")
      .map(recordOf);
  }

  find(id: string): AuthorityRecord | undefined {
    const row = this.#store.prepare<Row>("SELECT * FROM ca_key WHERE id = ?").get(id);
    return row === undefined ? undefined : recordOf(row);
  }

  active(kind: AuthorityKind): AuthorityRecord | undefined {
    const row = this.#store.prepare<Row>("SELECT * FROM ca_key WHERE kind = ? AND phase = 'active'").get(kind);
    return row === undefined ? undefined : recordOf(row);
  }

  /** The one whose ID begins so. Throws RiprapError `authority_unknown`. */
  resolve(text: string): AuthorityRecord {
    const found = this.list().filter(({ id }) => id === text || (text.length >= 8 && id.startsWith(text)));
    if (found.length === 1) return found[0] as AuthorityRecord;
    const fact = found.length > 1 ? "several begin so" : "there is none; `riprap authority list` shows them";
    throw new RiprapError(
      "authority_unknown",
      `Cannot find the authority ${JSON.stringify(text.slice(0, 80))}: ${fact}`,
    );
  }

  add(record: AuthorityRecord, occasion: Occasion): void {
    this.#store.transaction(() => {
      const { id, kind, phase, algorithm, material, keyName, chain, notAfter, preparedAt } = record;
      const times = [record.publishedAt, record.activatedAt, record.retiredAt, record.taintedAt, record.revokedAt];
      this.#store
        .prepare("INSERT INTO ca_key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .run(
          id,
          kind,
          phase,
          algorithm,
          material,
          keyName,
          chain,
          notAfter,
          preparedAt,
          ...times.map((t) => t ?? null),
        );
      this.#note(record, phase, occasion);
    });
  }

  /** The one that signed retires in the same commit when another becomes active. */
  move(record: AuthorityRecord, phase: Exclude<AuthorityPhase, "prepared">, occasion: Occasion): void {
    this.#store.transaction(() => {
      const before = this.active(record.kind);
      if (phase === "active" && before !== undefined && before.id !== record.id) this.move(before, "retired", occasion);
      this.#store
        .prepare(`UPDATE ca_key SET phase = ?1, ${COLUMN[phase]} = ?2 WHERE id = ?3`)
        .run(phase, occasion.at, record.id);
      // Nobody may find the name of a key that is gone.
      if (phase === "revoked") this.#store.prepare("UPDATE ca_key SET key_name = '' WHERE id = ?").run(record.id);
      this.#note(record, phase === "active" ? "activated" : phase, occasion);
    });
  }

  /** What signs under a root is another: its key, and the certificates up to the root. */
  rekey({ id, kind }: AuthorityRecord, by: { keyName: string; chain: Uint8Array }, occasion: Occasion): void {
    this.#store.transaction(() => {
      this.#store.prepare("UPDATE ca_key SET key_name = ?, chain = ? WHERE id = ?").run(by.keyName, by.chain, id);
      this.#note({ id, kind }, "certified", occasion);
    });
  }

  taint(record: AuthorityRecord, occasion: Occasion): void {
    this.#store.transaction(() => {
      this.#store.prepare("UPDATE ca_key SET tainted_at = ? WHERE id = ?").run(occasion.at, record.id);
      this.#store.prepare("UPDATE ca_key_change SET epoch = epoch + 1").run();
      this.#note(record, "tainted", occasion);
    });
  }

  /** Something that hangs on an authority is another: this node's intermediate. `reissues`: what the former one signed is worth nothing. */
  renewed(record: Pick<AuthorityRecord, "id" | "kind">, occasion: Occasion, reissues = false): void {
    this.#store.transaction(() => {
      this.#note(record, "renewed", occasion);
      if (reissues) this.#store.prepare("UPDATE ca_key_change SET epoch = epoch + 1").run();
    });
  }

  /** Under which name the key store has the key of a node's intermediate; before it is in use. */
  nameNodeKey(point: Uint8Array, keyName: string): void {
    this.#store.transaction(() => {
      this.#store.prepare("DELETE FROM ca_node_key WHERE key_name = ?").run(keyName);
      this.#store.prepare("INSERT OR REPLACE INTO ca_node_key VALUES (?, ?)").run(point, keyName);
    });
  }

  nodeKeyName(point: Uint8Array): string | undefined {
    const sql = "SELECT key_name AS keyName FROM ca_node_key WHERE point = ?";
    return this.#store.prepare<{ keyName: string }>(sql).get(point)?.keyName;
  }

  /** Roots that are here by the fleet's word alone, by ID, and whether that word has fallen. */
  toldRoots(): ReadonlyMap<string, { readonly hasFallen: boolean }> {
    const rows = this.#store
      .prepare<{ id: string; hasFallen: number }>("SELECT id, has_fallen AS hasFallen FROM ca_told_root")
      .all();
    return new Map(rows.map(({ id, hasFallen }) => [id, { hasFallen: hasFallen === 1 }]));
  }

  noteTold(id: string, hasFallen: boolean): void {
    this.#store.prepare("INSERT OR REPLACE INTO ca_told_root VALUES (?, ?)").run(id, hasFallen ? 1 : 0);
  }

  /** Grows with every change, of this process or another. */
  get generation(): number {
    return this.#change().generation;
  }

  /** Grows when X509-SVIDs that are good by their time must be made anew: their roots are others, or one is tainted. */
  get epoch(): number {
    return this.#change().epoch;
  }

  /** The latest first. */
  events(limit: number): readonly AuthorityEvent[] {
    return this.#store
      .prepare<Omit<AuthorityEvent, "forced"> & { forced: number }>(
        "SELECT * FROM ca_key_event ORDER BY rowid DESC LIMIT ?",
      )
      .all(limit)
      .map((event) => ({ ...event, forced: event.forced === 1 }));
  }

  #change(): { generation: number; epoch: number } {
    const sql = "SELECT generation, epoch FROM ca_key_change";
    return this.#store.prepare<{ generation: number; epoch: number }>(sql).get() ?? { generation: 0, epoch: 0 };
  }

  #note({ id, kind }: Pick<AuthorityRecord, "id" | "kind">, event: string, { at, forced, reason }: Occasion): void {
    const changesRoots = kind === "x509" && (event === "published" || event === "revoked");
    this.#store
      .prepare("INSERT INTO ca_key_event VALUES (?, ?, ?, ?, ?, ?)")
      .run(at, id, kind, event, forced === true ? 1 : 0, reason ?? "");
    this.#store
      .prepare("DELETE FROM ca_key_event WHERE rowid <= (SELECT max(rowid) FROM ca_key_event) - ?")
      .run(EVENTS_MAX);
    this.#store
      .prepare("UPDATE ca_key_change SET generation = generation + 1, epoch = epoch + ?")
      .run(changesRoots ? 1 : 0);
  }
}

const COLUMN = {
  published: "published_at",
  active: "activated_at",
  retired: "retired_at",
  revoked: "revoked_at",
} as const;

function recordOf(row: Row): AuthorityRecord {
  const { id, kind, phase, algorithm, material, chain } = row;
  return {
    ...{ id, kind, phase, algorithm, material, chain },
    keyName: row.key_name,
    notAfter: row.not_after,
    preparedAt: row.prepared_at,
    publishedAt: row.published_at ?? undefined,
    activatedAt: row.activated_at ?? undefined,
    retiredAt: row.retired_at ?? undefined,
    taintedAt: row.tainted_at ?? undefined,
    revokedAt: row.revoked_at ?? undefined,
  };
}
