import { describe, expect, test } from "bun:test";
import {
  DigestTree,
  parseDifference,
  parseDigest,
  parseIds,
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

  test("messages survive their octets, and mangled ones are refused by a RiprapError", () => {
    const state = fleet.state();
    const difference = { buckets: [1, 255], heads: [{ id: "ab".repeat(16), rank: 3, hash: "cd".repeat(16) }] };
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
