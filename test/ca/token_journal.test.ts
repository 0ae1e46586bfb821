// The journal of tokens: in the order of signing, across a change of its table, and pruned without losing what is to be kept.

import { expect, test } from "bun:test";
import { openTokenJournal, type TokenEntry } from "../../src/ca/token_journal.ts";
import { openStore, type Store } from "../../src/store.ts";

const DAY_SECONDS = 86_400;
const NOW = 1_800_000_000;
/** The table as it was before its rows were kept in the order of signing. */
const BEFORE = [
  `CREATE TABLE ca_jwt_svid (
     jti TEXT PRIMARY KEY, spiffe_id TEXT NOT NULL, audience TEXT NOT NULL, kid TEXT NOT NULL,
     signed_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, context TEXT NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE INDEX ca_jwt_svid_end ON ca_jwt_svid (expires_at);`,
  "ALTER TABLE ca_jwt_svid ADD COLUMN kind TEXT NOT NULL DEFAULT 'jwt'",
];

function entry(tokenId: string, issuedAt: number, over: Partial<TokenEntry> = {}): TokenEntry {
  const about = { kind: "jwt", spiffeId: "spiffe://edge.test/a", audience: ["b"], keyId: "k" } as const;
  return { ...about, tokenId, issuedAt, expiresAt: issuedAt + 300, context: { by: "test" }, ...over };
}

const idsOf = (store: Store) =>
  store
    .prepare<{ jti: string }>("SELECT jti FROM ca_jwt_svid ORDER BY rowid")
    .all()
    .map(({ jti }) => jti);

test("openTokenJournal() takes over the rows of the table of before, in the order of signing", () => {
  const store = openStore(":memory:");
  store.migrate("ca_jwt", BEFORE);
  const insert = store.prepare(
    "INSERT INTO ca_jwt_svid VALUES (?, 'spiffe://edge.test/a', '[\"b\"]', 'k', ?, ?, '{}', ?)",
  );
  insert.run("a", NOW + 2, NOW + 10, "wit");
  insert.run("c", NOW + 1, NOW + 900, "jwt");
  insert.run("b", NOW, NOW + 20, "jwt");
  const journal = openTokenJournal(store);
  journal.write([entry("d", NOW + 3)]);
  expect(journal.latest(10).map(({ tokenId, kind, issuedAt }) => [tokenId, kind, issuedAt])).toEqual([
    ["d", "jwt", NOW + 3],
    ["a", "wit", NOW + 2],
    ["c", "jwt", NOW + 1],
    ["b", "jwt", NOW],
  ]);
  expect(journal.latest(1, { kind: "wit" }).map(({ tokenId }) => tokenId)).toEqual(["a"]);
  expect(openTokenJournal(store).latest(10)).toHaveLength(4);
  store.close();
});

test("write() prunes what ended a month ago, and neither what is newer nor what a clock signed that was ahead", () => {
  const store = openStore(":memory:");
  const journal = openTokenJournal(store);
  const old = NOW - 31 * DAY_SECONDS;
  journal.write([entry("ahead", NOW + 365 * DAY_SECONDS), entry("old-1", old), entry("old-2", old + 1)]);
  journal.write([entry("kept", NOW - 29 * DAY_SECONDS), entry("behind", old)]);
  journal.write(Array.from({ length: 994 }, (_, i) => entry(`now-${i}`, NOW)));
  expect(idsOf(store)).toHaveLength(999);
  journal.write([entry("last", NOW)]);
  // "behind" waits until the one before it has ended for a month.
  expect(idsOf(store).filter((id) => !id.startsWith("now-"))).toEqual(["ahead", "kept", "behind", "last"]);
  store.close();
});
