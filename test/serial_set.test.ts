import { describe, expect, test } from "bun:test";
import { RiprapError } from "../src/error.ts";
import { SerialSet, serialOctets, timeOf } from "../src/serial_set.ts";
import { draw, random } from "./random.ts";

const BYTES = 20;
const START = 0x4190_0000_0000;
const END = 1_800_000_000_000;

interface Universe {
  readonly serials: Uint8Array;
  readonly revoked: Uint8Array;
  readonly until: number;
}

/** As a CA makes them: six octets of ascending time, fourteen random ones. */
function universe(seed: number, { size, revoked: wanted }: { size: number; revoked: number }): Universe {
  const next = random(seed);
  const serials = Buffer.alloc(size * BYTES);
  let time = START + 1;
  for (let at = 0; at < serials.length; at += BYTES) {
    for (const i of [4, 8, 12, 16]) serials.writeUInt32BE(draw(next, 2 ** 32), at + i);
    serials.writeUIntBE(time, at, 6);
    time += 1 + draw(next, 100_000);
  }
  const revoked = new Uint8Array(size);
  // Every one of the first is as likely as every other to be in the sample.
  for (let index = 0, left = wanted; index < size; index++) {
    if (draw(next, size - index) >= left) continue;
    revoked[index] = 1;
    left -= 1;
  }
  return { serials: Uint8Array.from(serials), revoked, until: time };
}

function makeSet({ serials, revoked, until }: Universe): SerialSet {
  return SerialSet.make({ serials, from: START, until, end: END, isRevoked: (index) => revoked[index] === 1 });
}

/** Indexes for which the answer is wrong. */
function wrongIn(set: SerialSet, { serials, revoked }: Universe): number[] {
  const wrong: number[] = [];
  for (const [index, flag] of revoked.entries())
    if (set.has(serials, index * BYTES) !== (flag === 1)) wrong.push(index);
  return wrong;
}

function codeOf(work: () => unknown): string {
  try {
    work();
    return "none";
  } catch (thrown) {
    if (thrown instanceof RiprapError) return thrown.code;
    throw thrown;
  }
}

/** Of a set of `revoked` among `size`, bits for each. */
function entropyBits({ size, revoked }: { size: number; revoked: number }): number {
  const p = revoked / size;
  return (-p * Math.log2(p) - (1 - p) * Math.log2(1 - p)) / p;
}

describe("SerialSet", () => {
  test.each([
    [0, 0],
    [1, 0],
    [1, 1],
    [2, 1],
    [3, 2],
    [100, 0],
    [100, 1],
    [100, 99],
    [100, 100],
    [1000, 65],
    [1500, 700],
    [5000, 5],
    [20_000, 20_000],
    [40_000, 40],
    [40_000, 400],
    [40_000, 4000],
    [40_000, 20_000],
    [40_000, 36_000],
  ])("has() of %i serial numbers finds the %i revoked ones and no other, written and read too", (size, revoked) => {
    for (const seed of size < 10_000 ? [1, 2, 3] : [4]) {
      const all = universe(seed, { size, revoked });
      const set = makeSet(all);
      const read = SerialSet.parse(set.write());
      expect(wrongIn(set, all)).toEqual([]);
      expect(wrongIn(read, all)).toEqual([]);
      expect([read.count, read.end, read.span]).toEqual([revoked, END, { from: START, until: all.until }]);
      expect(read.among(all.serials).length).toBe(revoked);
      expect(Buffer.compare(read.write(), set.write())).toBe(0);
    }
  });

  test.each([
    // Share, and how much above the entropy: more when the fingerprint's whole bits fit it less.
    [100, 100_000, 1.4],
    [1000, 100_000, 1.12],
    [10_000, 100_000, 1.12],
    [25_000, 50_000, 1.02],
    [2000, 200_000, 1.09],
  ])("write() of %i revoked among %i comes near their entropy", (revoked, size, most) => {
    const bytes = makeSet(universe(7, { size, revoked })).write();
    const ratio = (8 * bytes.length) / revoked / entropyBits({ size, revoked });
    expect(ratio).toBeGreaterThan(0.99);
    expect(ratio).toBeLessThan(most);
  });

  test("write() of few is no longer than a list of them", () => {
    for (const [size, revoked] of [
      [1, 1],
      [10, 1],
      [20_000, 1],
      [20_000, 2],
    ] as const) {
      const empty = makeSet(universe(3, { size, revoked: 0 })).write().length;
      expect(makeSet(universe(3, { size, revoked })).write().length).toBeLessThanOrEqual(empty + BYTES * revoked);
    }
  });

  test("make() gives the same octets for the same serial numbers", () => {
    const all = universe(11, { size: 3000, revoked: 300 });
    expect(makeSet(all).write()).toEqual(makeSet(universe(11, { size: 3000, revoked: 300 })).write());
    expect(makeSet(all).write()).not.toEqual(makeSet(universe(12, { size: 3000, revoked: 300 })).write());
  });

  test("has() says no to what was signed later or before, whatever its other octets", () => {
    const all = universe(13, { size: 2000, revoked: 2000 });
    const set = makeSet(all);
    for (const time of [0, START - 1, all.until, all.until + 1, 2 ** 48 - 1]) {
      const other = Buffer.from(all.serials);
      for (let at = 0; at < other.length; at += BYTES) other.writeUIntBE(time, at, 6);
      expect(set.among(other)).toEqual([]);
    }
  });

  test("make() refuses serial numbers out of order, twice, out of the span or cut short as a mistake of the caller", () => {
    const { serials, until } = universe(17, { size: 3, revoked: 0 });
    const source = { serials, from: START, until, end: END, isRevoked: () => false };
    const swapped = Uint8Array.from([...serials.subarray(BYTES, 2 * BYTES), ...serials.subarray(0, BYTES)]);
    const twice = Uint8Array.from([...serials.subarray(0, BYTES), ...serials.subarray(0, BYTES)]);
    for (const wrong of [
      { serials: swapped },
      { serials: twice },
      { serials: serials.subarray(1) },
      { from: START + 2 },
      { until: until - 100_001 },
      { from: until },
      { until: 2 ** 48 },
    ])
      expect(() => SerialSet.make({ ...source, ...wrong })).toThrow(RangeError);
  });

  test("parse() refuses what is cut short, too long, of another format or impossible", () => {
    const sets = [
      [100, 1],
      [100, 100],
      [3000, 300],
      [20_000, 9000],
      [10, 1],
    ].map(([size = 0, revoked = 0]) => makeSet(universe(19, { size, revoked })).write());
    for (const bytes of sets) {
      expect(codeOf(() => SerialSet.parse(bytes))).toBe("none");
      for (const length of [0, 1, 29, 30, bytes.length - 1])
        if (length < bytes.length)
          expect(codeOf(() => SerialSet.parse(bytes.subarray(0, length)))).toBe("serial_set_malformed");
      expect(codeOf(() => SerialSet.parse(Uint8Array.of(...bytes, 0)))).toBe("serial_set_malformed");
    }
    const [listed = new Uint8Array(), , tables = new Uint8Array(), two = new Uint8Array()] = sets;
    const mend = (bytes: Uint8Array, at: number, ...octets: number[]) => {
      const copy = Uint8Array.from(bytes);
      copy.set(octets, at);
      return codeOf(() => SerialSet.parse(copy));
    };
    expect(mend(tables, 0, 2)).toBe("serial_set_malformed");
    // The span: empty, backwards.
    expect(mend(tables, 1, ...tables.subarray(7, 13))).toBe("serial_set_malformed");
    expect(mend(tables, 7, 0, 0, 0, 0, 0, 0)).toBe("serial_set_malformed");
    // A count, a width, a second count of which no table has this length; a table of nothing; a list with a seed.
    for (const at of [19, 20, 21, 22, 23, 25, 26, 27, 28]) expect(mend(tables, at, 0x7e)).toBe("serial_set_malformed");
    expect(mend(tables, 19, 0, 0, 0, 0)).toBe("serial_set_malformed");
    expect(mend(listed, 24, 1)).toBe(listed[23] === 0xff ? "serial_set_malformed" : "none");
    // Sizes of buckets that cannot be: all far above the average, so that the last has less than nothing.
    expect(mend(two, 30, ...new Array(19).fill(127))).toBe("serial_set_malformed");
  });

  test("parse() throws nothing but serial_set_malformed on random and mangled octets, and what it takes can be asked", () => {
    const next = random(9181);
    const good = [
      [100, 1],
      [500, 500],
      [3000, 300],
      [9000, 4000],
    ].map(([size = 0, revoked = 0]) => makeSet(universe(23, { size, revoked })).write());
    const probe = universe(23, { size: 64, revoked: 0 }).serials;
    let taken = 0;
    for (let i = 0; i < 3000; i++) {
      const from = good[draw(next, good.length)] ?? new Uint8Array();
      const bytes =
        i % 3 === 0 ? Uint8Array.from({ length: draw(next, 80) }, () => draw(next, 256)) : Uint8Array.from(from);
      if (i % 3 === 0 && bytes.length > 0) bytes[0] = 1;
      for (let j = draw(next, 6); j > 0 && bytes.length > 0; j--)
        bytes[draw(next, Math.min(bytes.length, 60))] = draw(next, 256);
      const cut = i % 5 === 0 ? bytes.subarray(0, draw(next, bytes.length + 1)) : bytes;
      try {
        SerialSet.parse(cut).among(probe);
        taken += 1;
      } catch (thrown) {
        expect((thrown as RiprapError).code).toBe("serial_set_malformed");
      }
    }
    expect(taken).toBeGreaterThan(100);
  });
});

describe("serial numbers", () => {
  test("serialOctets() reads 40 digits and nothing else; timeOf() reads their first twelve", () => {
    const digits = `4190abcdef01${"5a".repeat(14)}`;
    expect(timeOf(serialOctets(digits) ?? new Uint8Array(20))).toBe(0x4190_abcd_ef01);
    for (const wrong of ["", "0a", digits.slice(2), `${digits}00`, digits.toUpperCase(), `${digits.slice(1)}g`])
      expect(serialOctets(wrong)).toBeUndefined();
  });
});
