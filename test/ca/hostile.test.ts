// Bytes that a stranger sends: whatever they are, verifyChain() answers, never throws, and accepts nothing that its CA did not sign.
import { beforeAll, describe, expect, test } from "bun:test";
import { type Certificate, parseCertificate } from "../../src/ca/certificate.ts";
import { type PeerAnswer, verifyChain } from "../../src/ca/chain.ts";
import { RiprapError } from "../../src/error.ts";
import { TrustDomain } from "../../src/spiffe_id.ts";
import { draw, pick, random } from "../random.ts";
import { type ForgedChain, forgeChain, START } from "./forge.ts";

const trustDomain = TrustDomain.parse("example.org");
let good: ForgedChain;
let anchors: Certificate[];

beforeAll(async () => {
  good = await forgeChain();
  anchors = [parseCertificate(good.root)];
});

function judge(...chain: Uint8Array[]): PeerAnswer {
  return verifyChain(chain, { trustDomain, anchors, now: START, isRevoked: () => false });
}

describe("verifyChain() with damaged certificates", () => {
  test("verifyChain() refuses a leaf or intermediate that is cut after any byte", () => {
    for (const which of ["leaf", "intermediate"] as const) {
      for (let length = 0; length < good[which].length; length += 1) {
        const answer = judge(...chainWith(which, good[which].subarray(0, length)));
        expect([length, answer.ok ? "accepted" : answer.code]).toEqual([length, "certificate_malformed"]);
      }
    }
  });

  test("verifyChain() refuses a certificate that anything follows", () => {
    for (const tail of [[0], [0, 0], [0x30, 0], [...good.leaf]]) {
      for (const which of ["leaf", "intermediate"] as const) {
        const answer = judge(...chainWith(which, Buffer.concat([good[which], Uint8Array.from(tail)])));
        expect(answer).toMatchObject({ ok: false, code: "certificate_malformed", alert: 42 });
      }
    }
  });

  test("verifyChain() refuses a certificate in which any one bit is turned (ID-18)", () => {
    for (const which of ["leaf", "intermediate"] as const) {
      for (let at = 0; at < good[which].length; at += 1) {
        const changed = Uint8Array.from(good[which]);
        changed[at] = (changed[at] as number) ^ (1 << (at % 8));
        const answer = judge(...chainWith(which, changed));
        expect([which, at, answer.ok]).toEqual([which, at, false]);
      }
    }
  });

  test("verifyChain() refuses every chain made from a good one by seeded cutting, copying and overwriting", () => {
    const next = random(0x2b0b);
    const codes = new Set<string>();
    for (let i = 0; i < 4000; i += 1) {
      const chain: Buffer[] = [good.leaf, good.intermediate].map((certificate) => Buffer.from(certificate));
      const which = draw(next, 2);
      const before = chain[which] as Buffer;
      const after = mutate(next, before);
      if (after.equals(before)) continue;
      chain[which] = after;
      const answer = judge(...chain);
      expect([i, answer.ok]).toEqual([i, false]);
      if (!answer.ok) codes.add(answer.code);
    }
    expect(codes.has("internal")).toBe(false);
    expect(codes.size).toBeGreaterThan(4);
  });

  test("verifyChain() answers to noise of any length", () => {
    const next = random(7);
    for (let i = 0; i < 2000; i += 1) {
      const chain = Array.from({ length: draw(next, 10) }, () =>
        Buffer.from(Array.from({ length: draw(next, 60) }, () => draw(next, 256))),
      );
      const answer = judge(...chain);
      expect(answer.ok).toBe(false);
      expect(answer.ok ? "" : answer.code).not.toBe("internal");
    }
  });

  test("verifyChain() refuses nesting and lists that are made to cost", () => {
    let nested: Buffer = Buffer.alloc(0);
    while (nested.length < 15_000) nested = wrap(0x30, nested);
    const wide = wrap(0x30, Buffer.alloc(15_000, Buffer.of(0x30, 0)));
    for (const bytes of [nested, wide, Buffer.alloc(16_384, 0x30), Buffer.alloc(16_384, 0xff)]) {
      expect(judge(bytes)).toMatchObject({ ok: false, code: "certificate_malformed" });
    }
  });

  test("verifyChain() never shows control characters of the peer in its message", async () => {
    const names = [{ type: "url" as const, value: "spiffe://example.org/\u0007\u001b[31m" }];
    const { leaf, intermediate } = await forgeChain({ leaf: { names } });
    const answer = judge(leaf, intermediate);
    expect(answer.ok ? "" : answer.code).toBe("certificate_malformed");
    expect([...(answer.ok ? "" : answer.message)].every((character) => character >= " ")).toBe(true);
  });
});

describe("parseCertificate()", () => {
  test("parseCertificate() throws only RiprapError when its input is damaged", () => {
    const next = random(99);
    for (let i = 0; i < 3000; i += 1) {
      const damaged = mutate(next, Buffer.from(good.leaf));
      try {
        parseCertificate(damaged);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(RiprapError);
      }
    }
  });
});

function chainWith(which: "leaf" | "intermediate", bytes: Uint8Array): Uint8Array[] {
  return which === "leaf" ? [bytes, good.intermediate] : [good.leaf, bytes];
}

function mutate(next: () => number, bytes: Buffer): Buffer {
  const at = draw(next, bytes.length);
  const length = 1 + draw(next, 8);
  const ways: (() => Buffer)[] = [
    () => Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]),
    () => Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at)]),
    () =>
      Buffer.concat([
        bytes.subarray(0, at),
        Buffer.from(Array.from({ length }, () => draw(next, 256))),
        bytes.subarray(at + length),
      ]),
    () => {
      const copy = Buffer.from(bytes);
      copy[at] = pick(next, [0, 1, 0x7f, 0x80, 0xff, 0x30, draw(next, 256)]);
      return copy;
    },
  ];
  return pick(next, ways)();
}

function wrap(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const head =
    length < 128 ? [tag, length] : length < 256 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), content]);
}
