import { beforeEach, describe, expect, test } from "bun:test";
import { Journal } from "../../src/ca/journal.ts";
import { SerialSource } from "../../src/ca/svid.ts";
import { liveSerials, revokedSets } from "../../src/ca.ts";
import { openStore, type Store } from "../../src/store.ts";

const NOW = Date.parse("2026-11-21T12:00:00Z");
const HOUR = 3_600_000;
const AUTHORITY = "0a".repeat(20);
const OTHER = "0b".repeat(20);
const source = new SerialSource();
let store: Store;

beforeEach(() => {
  store = openStore(":memory:");
});

/** Signs some, a millisecond after one another; their serial numbers in hexadecimal. */
function sign(
  count: number,
  { issuer = AUTHORITY, at = NOW - HOUR / 2, lives = HOUR }: { issuer?: string; at?: number; lives?: number } = {},
): string[] {
  const entries = Array.from({ length: count }, (_, i) => ({
    serial: source.next(at + i),
    spiffeId: "spiffe://example.org/w",
    issuer: Buffer.from(issuer, "hex"),
    notBefore: at,
    notAfter: at + lives + i,
    signedAt: at + i,
    context: "{}",
  }));
  new Journal(store).addSvids(entries);
  return entries.map(({ serial }) => Buffer.from(serial).toString("hex"));
}

function makeSets(revoked: readonly string[], over: { bytesMax?: number; now?: number; authority?: string } = {}) {
  return revokedSets(store, { authority: AUTHORITY, now: NOW, bytesMax: 65_536, ...over, revoked: new Set(revoked) });
}

const octets = (serials: readonly string[]) => Uint8Array.from(Buffer.from(serials.join(""), "hex"));

describe("liveSerials()", () => {
  test("gives those of the authority that have not ended, in order, but for the last ten seconds", () => {
    const live = sign(20_000);
    sign(5, { issuer: OTHER });
    sign(5, { at: NOW - 2 * HOUR });
    const fresh = sign(5, { at: NOW - 9000 });
    expect(Buffer.compare(liveSerials(store, { authority: AUTHORITY, now: NOW }), octets(live))).toBe(0);
    const later = liveSerials(store, { authority: AUTHORITY, now: NOW + 20_000 });
    expect(Buffer.compare(later, octets([...live, ...fresh]))).toBe(0);
    expect(liveSerials(store, { authority: "0c".repeat(20), now: NOW })).toHaveLength(0);
  });
});

describe("revokedSets()", () => {
  test("makes one set that is exact for all that was signed, and ends with the last of the revoked", () => {
    const live = sign(3000);
    const revoked = live.filter((_, i) => i % 30 === 3);
    const [set, ...more] = makeSets(revoked);
    expect(more).toEqual([]);
    expect(set?.among(octets(live))).toEqual(revoked);
    expect(set?.end).toBe(NOW + HOUR / 2 + 2973);
    expect(set?.among(octets(sign(3000, { at: NOW - 9000 })))).toEqual([]);
    expect(makeSets(revoked)[0]?.write()).toEqual(set?.write() as Uint8Array);
  });

  test("leaves out what another authority signed, what has ended, what is fresh and what nobody signed", () => {
    const [own = ""] = sign(10);
    const none = [
      ...sign(3, { issuer: OTHER }),
      ...sign(3, { at: NOW - 2 * HOUR }),
      ...sign(3, { at: NOW - 9000 }),
      "00".repeat(20),
      "7f".repeat(20),
      "0a",
    ];
    expect(makeSets(none)).toEqual([]);
    expect(makeSets([])).toEqual([]);
    expect(makeSets([...none, own]).map(({ count }) => count)).toEqual([1]);
  });

  test("divides what is too much for one by time, and each is exact for its span", () => {
    const live = sign(4000);
    const revoked = live.filter((_, i) => i % 2 === 0);
    const sets = makeSets(revoked, { bytesMax: 200 });
    expect(sets.length).toBeGreaterThan(2);
    expect(sets.flatMap((set) => set.among(octets(live)))).toEqual(revoked);
    for (const set of sets) expect(set.write().length).toBeLessThanOrEqual(200);
    const spans = sets.map(({ span }) => span);
    for (const [i, { from }] of spans.entries()) if (i > 0) expect(from).toBe(spans[i - 1]?.until as number);
  });

  test("makes none where all of one moment are too much for one", () => {
    const [first = ""] = sign(1);
    const at = NOW - HOUR / 2;
    const same = Array.from({ length: 200 }, () => source.next(at));
    const about = { spiffeId: "spiffe://example.org/w", issuer: Buffer.from(AUTHORITY, "hex"), notBefore: at };
    const entries = same.map((serial) => ({ serial, ...about, notAfter: NOW + HOUR, signedAt: at, context: "{}" }));
    new Journal(store).addSvids(entries);
    const revoked = same.filter((_, i) => i % 2 === 0).map((serial) => Buffer.from(serial).toString("hex"));
    expect(makeSets([first, ...revoked], { bytesMax: 40 })).toEqual([]);
  });
});
