import { describe, expect, test } from "bun:test";
import {
  type Difference,
  DigestTree,
  HEADS_MAX,
  parseDifference,
  parseDigest,
  parseIds,
  type StatementHead,
  statementId,
  writeDifference,
  writeDigest,
} from "../../src/federation/digest.ts";
import type { FleetState } from "../../src/federation/fleet_state.ts";
import {
  BATCH_BYTES_MAX,
  batchStatements,
  type FleetMessage,
  parseMessage,
  writeMessage,
} from "../../src/federation/message.ts";
import { draw, random } from "../random.ts";
import { makeFleet, NOW, sayResource, saySeen, service, take, voice } from "./fleet_fixture.ts";

const fleet = makeFleet();
const through = <T extends FleetMessage>(message: T): T => parseMessage(message.type, writeMessage(message)) as T;

/** One whole round of anti-entropy, over the wire's own octets. Answers the statements that crossed. */
function converge(asker: FleetState, other: FleetState): number {
  let crossed = 0;
  for (let round = 0; round < 64 && asker.root() !== other.root(); round += 1) {
    const { digest } = through({ type: "digest", digest: asker.digest() });
    const { difference } = through({ type: "difference", difference: other.difference(digest) });
    const { want, give } = asker.compare(difference);
    const { ids } = through({ type: "want", ids: want });
    for (const [to, statements] of [
      [asker, other.pick(ids, BATCH_BYTES_MAX)],
      [other, asker.pick(give, BATCH_BYTES_MAX)],
    ] as const) {
      const message = through({ type: "statements", statements });
      crossed += message.statements.length;
      to.applyAll(message.statements, NOW);
    }
  }
  expect(asker.root()).toBe(other.root());
  return crossed;
}

describe("anti-entropy", () => {
  test("compare() and pick() send what differs and nothing else", () => {
    const [a, b] = [fleet.state(), fleet.state()];
    for (let n = 0; n < 300; n += 1)
      for (const state of [a, b]) take(state, sayResource(voice("olga"), service(`s${n}`)));
    take(a, sayResource(voice("olga"), service("only-a")));
    take(b, saySeen("ben"));
    take(a, sayResource(voice("olga"), service("s7", 81), { revision: 2 }));
    expect(converge(a, b)).toBe(3);
    expect(converge(a, b)).toBe(0);
  });

  test("a cold node converges to everything in rounds that each fit one message", () => {
    const [cold, warm] = [fleet.state(), fleet.state()];
    const notes = "x".repeat(3000);
    for (let n = 0; n < 400; n += 1) {
      const document = { ...(service(`s${n}`) as object), metadata: { name: `s${n}`, annotations: { notes } } };
      take(warm, sayResource(voice("olga"), document));
    }
    expect(converge(cold, warm)).toBe(400);
    expect(cold.size).toBe(warm.size);
  });

  test("pick() puts grants before what rests on them", () => {
    const state = fleet.state();
    take(state, saySeen("ada"));
    const all = state.compare({ buckets: Array.from({ length: 256 }, (_, i) => i), heads: [] }).give;
    const kinds = state.pick(all, BATCH_BYTES_MAX).map(({ kind }) => kind);
    expect(kinds).toEqual(["issuer", "issuer", "operator", "operator", "node", "node", "node", "node", "presence"]);
    expect(state.pick(all, 700).length).toBeLessThan(kinds.length);
  });

  test("batchStatements() fills messages and leaves nothing out", () => {
    const statements = Array.from({ length: 2000 }, (_, n) => sayResource(voice("olga"), service(`s${n}`)));
    const batches = batchStatements(statements);
    expect(batches.flatMap((batch) => batch.statements)).toEqual(statements);
    expect(batches.length).toBeGreaterThan(1);
    for (const batch of batches) expect(writeMessage(batch).length).toBeLessThanOrEqual(BATCH_BYTES_MAX + 2);
  });
});

describe("DigestTree", () => {
  test("digest() is the same whatever order heads came in, and after one came and went", () => {
    const next = random(3);
    const heads = Array.from({ length: 500 }, () => ({
      id: Buffer.from(Array.from({ length: 16 }, () => draw(next, 256))).toString("hex"),
      rank: draw(next, 9),
      hash: Buffer.from(Array.from({ length: 16 }, () => draw(next, 256))).toString("hex"),
    }));
    const [a, b] = [new DigestTree(), new DigestTree()];
    for (const head of heads) a.set(head);
    for (const head of [...heads].reverse()) b.set(head);
    expect(a.digest()).toEqual(b.digest());
    const extra = { id: "00".repeat(16), rank: 1, hash: "11".repeat(16) };
    a.set(extra);
    expect(a.root()).not.toBe(b.root());
    expect(a.differing(b.digest())).toEqual([0]);
    a.remove(extra.id);
    a.remove(extra.id);
    expect(a.digest()).toEqual(b.digest());
  });

  const id = (bucket: number, n: number) => bucket.toString(16).padStart(2, "0") + n.toString(16).padStart(30, "0");
  const head = (bucket: number, n: number): StatementHead => {
    return { id: id(bucket, n), rank: 1, hash: id(bucket, n) };
  };
  const treeOf = (heads: readonly StatementHead[]) => {
    const tree = new DigestTree();
    for (const one of heads) tree.set(one);
    return tree;
  };
  const crowd = (count: number) => Array.from({ length: count }, (_, n) => head(0, 3 * n));

  test("difference() gives all other buckets whole though one has more heads than an answer holds", () => {
    const [mine, theirs] = [treeOf(crowd(HEADS_MAX + 1)), treeOf(crowd(HEADS_MAX))];
    for (const bucket of [1, 7, 255]) mine.set(head(bucket, 5));
    const next = random(5);
    for (let round = 0; round < 20; round++) {
      const difference = mine.difference(theirs.digest(), next);
      expect([...difference.buckets].sort()).toEqual([1, 255, 7]);
      expect(difference.window?.from.slice(0, 2)).toBe("00");
      expect(difference.heads.length).toBeLessThanOrEqual(HEADS_MAX);
      expect(parseDifference(writeDifference(difference))).toEqual(difference);
    }
  });

  test("difference() goes through 30,000 heads of one bucket in windows that leave out no id of either side", () => {
    const heads = crowd(30_000);
    const mine = treeOf(heads);
    const other = new DigestTree().digest();
    const windows = new Map<string, Difference>();
    const next = random(6);
    for (let round = 0; round < 50; round++) {
      const difference = mine.difference(other, next);
      windows.set(difference.window?.from ?? "", difference);
      expect(difference.heads.length).toBeLessThanOrEqual(HEADS_MAX);
    }
    const sorted = [...windows.values()].sort((a, b) => ((a.window?.from ?? "") < (b.window?.from ?? "") ? -1 : 1));
    expect(sorted.length).toBe(Math.ceil(30_000 / (HEADS_MAX - 1)));
    expect(new Set(sorted.flatMap((difference) => difference.heads.map((one) => one.id))).size).toBe(30_000);
    expect(sorted[0]?.window?.from).toBe("00".repeat(16));
    expect(sorted.at(-1)?.window?.until).toBe(`00${"ff".repeat(15)}`);
    for (const [i, one] of sorted.slice(1).entries()) expect(one.window?.from).toBe(sorted[i]?.window?.until as string);
  });

  test("difference() reaches every bucket though more of them never come to be the same than an answer holds", () => {
    const heads = Array.from({ length: 10 }, (_, bucket) => Array.from({ length: 4000 }, (_, n) => head(bucket, n)));
    const mine = treeOf(heads.flat());
    const next = random(7);
    const told = new Set<number>();
    for (let round = 0; round < 60; round++) {
      const { buckets, window } = mine.difference(new DigestTree().digest(), next);
      expect(window).toBeUndefined();
      for (const bucket of buckets) told.add(bucket);
    }
    expect(told.size).toBe(10);
  });

  test("headsOf() gives what is in the buckets and in the window, both of its ends among it", () => {
    const tree = treeOf([...crowd(5), head(1, 1), head(2, 1)]);
    const window = { from: id(0, 3), until: id(0, 9) };
    expect(tree.headsOf({ buckets: [1], window }).map((one) => one.id)).toEqual([
      id(1, 1),
      ...[3, 6, 9].map((n) => id(0, n)),
    ]);
  });

  test("statementId() keeps revocations and presences in buckets of their own", () => {
    const bucketsOf = (prefix: string) =>
      Array.from({ length: 2000 }, (_, n) => Number.parseInt(statementId(`${prefix}${n}`).slice(0, 2), 16));
    const span = (prefix: string) => [Math.min(...bucketsOf(prefix)), Math.max(...bucketsOf(prefix))];
    expect(span("resource/Service/s")).toEqual([0, 191]);
    expect(span("revocation/id:")).toEqual([192, 223]);
    expect(span("presence/n")).toEqual([224, 255]);
  });

  test("parseDifference() refuses what contradicts itself", () => {
    const window = { from: id(4, 10), until: id(4, 20) };
    const good = { buckets: [1, 2], window, heads: [head(1, 9), head(4, 10), head(4, 20)] };
    expect(parseDifference(writeDifference(good))).toEqual(good);
    for (const bad of [
      { ...good, heads: [head(3, 1)] },
      { ...good, heads: [head(4, 9)] },
      { ...good, heads: [head(4, 21)] },
      { ...good, buckets: [1, 1] },
      { ...good, buckets: [1, 4] },
      { ...good, window: { from: id(4, 21), until: id(4, 20) } },
      { ...good, window: { from: id(4, 10), until: id(5, 20) } },
      { ...good, window: undefined },
    ])
      expect(() => parseDifference(writeDifference(bad))).toThrow(
        expect.objectContaining({ code: "octets_malformed" }),
      );
  });

  test("messages survive their octets, and mangled ones are refused by a RiprapError", () => {
    const state = fleet.state();
    const difference = {
      buckets: [1, 255],
      window: { from: "aa".repeat(16), until: `aa${"ff".repeat(15)}` },
      heads: [{ id: `aa${"bc".repeat(15)}`, rank: 3, hash: "cd".repeat(16) }],
    };
    expect(parseDigest(writeDigest(state.digest()))).toEqual(state.digest());
    expect(parseDifference(writeDifference(difference))).toEqual(difference);
    const messages: FleetMessage[] = [
      { type: "digest", digest: state.digest() },
      { type: "difference", difference },
      { type: "want", ids: ["ab".repeat(16)] },
      { type: "same" },
      { type: "statements", statements: [...fleet.grants] },
      { type: "notice", code: "rolled_back", time: NOW, proof: new Uint8Array(9) },
    ];
    const next = random(11);
    for (const message of messages) {
      const bytes = writeMessage(message);
      expect(parseMessage(message.type, bytes)).toEqual(message);
      for (let round = 0; round < 400; round += 1) {
        const mangled = Uint8Array.from(bytes).subarray(0, bytes.length - draw(next, 4));
        for (let i = draw(next, 6); i >= 0; i -= 1) mangled[draw(next, mangled.length)] = draw(next, 256);
        try {
          parseMessage(message.type, mangled);
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: expect.stringMatching(/^(octets|statement)_malformed$/) });
        }
      }
    }
    expect(() => parseIds(Buffer.from("ffff", "hex"))).toThrow(expect.objectContaining({ code: "octets_malformed" }));
    expect(() => parseMessage("no such", new Uint8Array())).toThrow(RangeError);
  });
});
