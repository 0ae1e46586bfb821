// The table of bundles of other trust domains: the last good document of each, as it came. Survives the daemon.

import type { Store } from "../../store.ts";

const MIGRATIONS = [
  `CREATE TABLE foreign_bundle (
     trust_domain TEXT PRIMARY KEY, document TEXT NOT NULL, source TEXT NOT NULL, first_digest TEXT NOT NULL, taken_at INTEGER NOT NULL
   ) STRICT;`,
  "CREATE TABLE foreign_pin (trust_domain TEXT PRIMARY KEY, pin TEXT NOT NULL) STRICT;",
];

/** Where a bundle came from: the resource, a person's command, its endpoint, or the fleet's broker. */
export type BundleSource = "resource" | "command" | "endpoint" | "fleet";

export interface StoredBundle {
  readonly trustDomain: string;
  readonly document: string;
  readonly source: BundleSource;
  /** SHA-256 of the first bundle that the resource gave when this was taken; empty: it gave none. */
  readonly firstDigest: string;
  /** Milliseconds since the epoch. */
  readonly takenAt: number;
}

export interface BundleTable {
  all(): readonly StoredBundle[];
  /** Of the trust domains that have a row. */
  names(): readonly string[];
  /** Undefined: there is no row. */
  firstDigestOf(trustDomain: string): string | undefined;
  put(bundle: StoredBundle): void;
  /** The first bundle that was looked at last, without a change of what is held. */
  noteFirst(trustDomain: string, digest: string): void;
  drop(trustDomain: string): void;
  /** What a person pinned for the first contact over the broker. */
  pinOf(trustDomain: string): string | undefined;
  /** Undefined: nothing any more. */
  pin(trustDomain: string, pin: string | undefined): void;
}

interface Row {
  trust_domain: string;
  document: string;
  source: string;
  first_digest: string;
  taken_at: number;
}

export function openBundleTable(store: Store): BundleTable {
  store.migrate("foreign_bundle", MIGRATIONS);
  const all = store.prepare<Row>("SELECT * FROM foreign_bundle ORDER BY trust_domain");
  const names = store.prepare<{ trust_domain: string }>("SELECT trust_domain FROM foreign_bundle");
  const first = store.prepare<{ first_digest: string }>(
    "SELECT first_digest FROM foreign_bundle WHERE trust_domain = ?",
  );
  const put = store.prepare("INSERT OR REPLACE INTO foreign_bundle VALUES (?, ?, ?, ?, ?)");
  const note = store.prepare("UPDATE foreign_bundle SET first_digest = ?2 WHERE trust_domain = ?1");
  const drop = store.prepare("DELETE FROM foreign_bundle WHERE trust_domain = ?");
  const pinOf = store.prepare<{ pin: string }>("SELECT pin FROM foreign_pin WHERE trust_domain = ?");
  const pin = store.prepare("INSERT OR REPLACE INTO foreign_pin VALUES (?, ?)");
  const unpin = store.prepare("DELETE FROM foreign_pin WHERE trust_domain = ?");
  return {
    all: () =>
      all.all().map((row) => ({
        trustDomain: row.trust_domain,
        document: row.document,
        source: row.source as BundleSource,
        firstDigest: row.first_digest,
        takenAt: row.taken_at,
      })),
    names: () => names.all().map(({ trust_domain }) => trust_domain),
    firstDigestOf: (trustDomain) => first.get(trustDomain)?.first_digest,
    put({ trustDomain, document, source, firstDigest, takenAt }) {
      put.run(trustDomain, document, source, firstDigest, takenAt);
    },
    noteFirst: (trustDomain, digest) => void note.run(trustDomain, digest),
    drop: (trustDomain) => void drop.run(trustDomain),
    pinOf: (trustDomain) => pinOf.get(trustDomain)?.pin,
    pin: (trustDomain, text) => void (text === undefined ? unpin.run(trustDomain) : pin.run(trustDomain, text)),
  };
}
