import { beforeEach, describe, expect, test } from "bun:test";
import { JOURNAL_RETENTION_MS, Journal, type SvidEntry } from "../../src/ca/journal.ts";
import { SerialSource, SVID_LIFETIME_MAX_MS } from "../../src/ca/svid.ts";
import { openStore, type Store } from "../../src/store.ts";

const NOW = Date.parse("2026-11-21T12:00:00Z");
const serials = new SerialSource();
let store: Store;
let journal: Journal;

beforeEach(() => {
  store = openStore(":memory:");
  journal = new Journal(store);
});

function entry(changes: Partial<SvidEntry> = {}): SvidEntry {
  const signedAt = changes.signedAt ?? NOW;
  return {
    serial: serials.next(signedAt),
    spiffeId: "spiffe://a/b",
    issuer: Buffer.of(1),
    notBefore: signedAt,
    notAfter: signedAt + 1000,
    signedAt,
    context: "{}",
    ...changes,
  };
}

describe("Journal", () => {
  test("addSvids() keeps every field", () => {
    const added = entry({ context: '{"pid":7}' });
    journal.addSvids([added]);
    expect(
      store
        .prepare("SELECT hex(serial) AS serial, spiffe_id, not_before, not_after, signed_at, context FROM ca_svid")
        .all(),
    ).toEqual([
      {
        serial: Buffer.from(added.serial).toString("hex").toUpperCase(),
        spiffe_id: "spiffe://a/b",
        not_before: NOW,
        not_after: NOW + 1000,
        signed_at: NOW,
        context: '{"pid":7}',
      },
    ]);
    expect(journal.notAfterOf(added.serial)).toBe(NOW + 1000);
    expect(journal.notAfterOf(Buffer.of(9))).toBeUndefined();
  });

  test("addSvids() throws and keeps none of a batch when a serial was used before", () => {
    const first = entry();
    journal.addSvids([first]);
    expect(() => journal.addSvids([entry(), first])).toThrow();
    expect(() => journal.addSvids([first])).toThrow();
    expect(journal.counts().svids).toBe(1);
  });

  test("addSvids() is undone with the caller's transaction", () => {
    expect(() =>
      store.transaction(() => {
        journal.addSvids([entry(), entry()]);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(journal.counts().svids).toBe(0);
  });

  test.each(["ca_svid", "ca_authority", "ca_revocation"])("the table %s takes no update", (table) => {
    journal.addSvids([entry()]);
    journal.addRevocation({ serial: Buffer.of(1), reason: "x", revokedAt: NOW, keepUntil: NOW });
    journal.addAuthority({
      serial: Buffer.of(1),
      kind: "root",
      node: "",
      keyId: Buffer.of(1),
      notBefore: 0,
      notAfter: 0,
      signedAt: 0,
      context: "{}",
    });
    expect(() => store.prepare(`UPDATE ${table} SET serial = x'00'`).run()).toThrow("append-only");
  });

  test("prune() removes entries a day after the longest life, and never one that has not ended", () => {
    const old = NOW - SVID_LIFETIME_MAX_MS - JOURNAL_RETENTION_MS;
    const dead = entry({ signedAt: old - 1000 });
    const alive = entry({ signedAt: old });
    journal.addSvids([dead, alive]);
    journal.addRevocation({
      serial: dead.serial,
      reason: "x",
      revokedAt: old,
      keepUntil: NOW - JOURNAL_RETENTION_MS - 1,
    });
    journal.addRevocation({ serial: alive.serial, reason: "x", revokedAt: old, keepUntil: NOW - JOURNAL_RETENTION_MS });
    expect(journal.prune(NOW)).toBe(2);
    expect(journal.counts()).toMatchObject({ svids: 1, revocations: 1 });
    expect(journal.notAfterOf(alive.serial)).toBeNumber();
    expect(journal.isRevoked(alive.serial)).toBe(true);
  });

  test("prune() removes nothing that has not ended when the clock was set to 1970 or serials have gone round", () => {
    journal.addSvids([entry(), entry()]);
    for (const now of [0, Date.parse("2055-01-01T00:00:00Z") - 2 ** 30 * 1000, NOW]) expect(journal.prune(now)).toBe(0);
    expect(journal.counts().svids).toBe(2);
  });

  test("addSvids() keeps the journal bounded over weeks of steady issuing", () => {
    const step = 3600 * 1000;
    let most = 0;
    for (let hour = 0; hour < 24 * 14; hour += 1) {
      journal.addSvids(Array.from({ length: 64 }, () => entry({ signedAt: NOW + hour * step })));
      most = Math.max(most, journal.counts().svids);
    }
    // Two days of 64 an hour, and what comes between two prunings.
    expect(most).toBeLessThanOrEqual(64 * 49 + 256);
    expect(journal.counts().svids).toBeGreaterThan(64 * 47);
  });

  test("addRevocation() keeps the first reason, and isRevoked() knows only what was revoked", () => {
    expect(journal.addRevocation({ serial: Buffer.of(1, 2), reason: "first", revokedAt: NOW, keepUntil: NOW })).toBe(
      true,
    );
    expect(journal.addRevocation({ serial: Buffer.of(1, 2), reason: "second", revokedAt: NOW, keepUntil: NOW })).toBe(
      false,
    );
    expect(journal.isRevoked(Buffer.of(1, 2))).toBe(true);
    expect(journal.isRevoked(Buffer.of(1))).toBe(false);
  });

  test("liveIntermediates() leaves out what has ended, is revoked or is of another name", () => {
    const add = (serial: number, node: string, notAfter: number) =>
      journal.addAuthority({
        serial: Buffer.of(serial),
        kind: "intermediate",
        node,
        keyId: Buffer.of(serial),
        notBefore: 0,
        notAfter,
        signedAt: 0,
        context: "{}",
      });
    add(1, "a", NOW + 1);
    add(2, "a", NOW);
    add(3, "a", NOW + 1);
    add(4, "b", NOW + 1);
    journal.addRevocation({ serial: Buffer.of(3), reason: "x", revokedAt: NOW, keepUntil: NOW });
    expect(journal.liveIntermediates("a", NOW).map(({ serial }) => serial[0])).toEqual([1]);
    expect(journal.hasAuthorityKey(Buffer.of(2))).toBe(true);
    expect(journal.hasAuthorityKey(Buffer.of(9))).toBe(false);
  });
});
