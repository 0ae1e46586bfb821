// The frame codec: every type there and back, and hostile bytes refused.

import { describe, expect, test } from "bun:test";
import { ABI, decodeFrames, encodeFrame, FRAME, FRAME_HEAD, TABLE_RULE } from "../../src/abi.ts";
import { RiprapError } from "../../src/error.ts";
import { FRAME_NAMES, sampleBody, sampleFrame, seeded } from "./sample.ts";

function refusal(bytes: Uint8Array): string {
  try {
    decodeFrames(bytes);
  } catch (thrown) {
    if (thrown instanceof RiprapError) return thrown.code;
    throw thrown;
  }
  return "accepted";
}

function patched(bytes: Uint8Array, offset: number, value: number): Uint8Array {
  const copy = bytes.slice();
  copy[offset] = value;
  return copy;
}

describe("decodeFrames()", () => {
  test("decodeFrames() gives back every body when encodeFrame() wrote it", () => {
    for (const type of FRAME_NAMES) {
      const [frame] = decodeFrames(sampleFrame(type, 7n));
      expect(frame?.type).toBe(type);
      expect(frame?.sequence).toBe(7n);
      expect(frame?.body as unknown).toEqual(sampleBody(type));
    }
  });

  test("decodeFrames() gives every frame in order when one read holds several", () => {
    const all = Buffer.concat(FRAME_NAMES.map((type, index) => sampleFrame(type, BigInt(index + 1))));
    expect(decodeFrames(all).map((frame) => frame.type)).toEqual(FRAME_NAMES);
    expect(decodeFrames(new Uint8Array(0))).toEqual([]);
  });

  test("decodeFrames() refuses every frame when it is cut at any byte", () => {
    for (const type of FRAME_NAMES) {
      const bytes = sampleFrame(type);
      for (let length = 1; length < bytes.length; length++) {
        expect(`${type} ${length} ${refusal(bytes.subarray(0, length))}`).toBe(`${type} ${length} malformed_frame`);
      }
      expect(refusal(Buffer.concat([bytes, new Uint8Array(1)]))).toBe("malformed_frame");
    }
  });

  test("decodeFrames() refuses a head when magic, version, type or length is wrong", () => {
    const bytes = sampleFrame("ack");
    expect(refusal(patched(bytes, 0, 0))).toBe("malformed_frame");
    expect(refusal(patched(bytes, 4, 2))).toBe("malformed_frame");
    expect(refusal(patched(bytes, 6, 0x7f))).toBe("malformed_frame");
    expect(refusal(patched(bytes, 6, 0))).toBe("malformed_frame");
    expect(refusal(patched(bytes, 8, bytes.length - FRAME_HEAD.size + 1))).toBe("malformed_frame");
    expect(refusal(patched(bytes, 8, 0))).toBe("malformed_frame");
    expect(refusal(patched(bytes, 10, 0xff))).toBe("malformed_frame");
  });

  test("decodeFrames() refuses a tail when its lengths lie or an ID is not clean UTF-8", () => {
    const head = FRAME_HEAD.size;
    const assign = sampleFrame("assign");
    const text = head + FRAME.assign.struct.size;
    expect(refusal(patched(assign, text, 0xff))).toBe("malformed_frame");
    expect(refusal(patched(assign, text + 3, 0))).toBe("malformed_frame");
    expect(refusal(patched(assign, head + 12, 200))).toBe("malformed_frame");
    const verify = sampleFrame("verify");
    const certs = FRAME.verify.struct.fields.find((field) => field.name === "certs")?.offset ?? -1;
    for (const count of [0, 1, 3, 9, 255])
      expect(refusal(patched(verify, head + certs, count))).toBe("malformed_frame");
    expect(refusal(patched(verify, head + FRAME.verify.struct.size, 0))).toBe("malformed_frame");
    expect(refusal(patched(verify, head + FRAME.verify.struct.size + 3, 0xff))).toBe("malformed_frame");
  });

  test("decodeFrames() answers with frames or malformed_frame alone when bytes are mutated at random", () => {
    const random = seeded(0x5eed);
    for (let round = 0; round < 20_000; round++) {
      const type = FRAME_NAMES[random(FRAME_NAMES.length)] ?? "hello";
      const bytes = sampleFrame(type);
      for (let flips = random(6) + 1; flips > 0; flips--) bytes[random(bytes.length)] = random(256);
      const answer = refusal(bytes);
      expect(answer === "accepted" || answer === "malformed_frame").toBe(true);
    }
  });
});

describe("encodeFrame()", () => {
  test("encodeFrame() refuses a body when a value does not fit its field", () => {
    const head = { flags: 0, sequence: 1n };
    const ack = sampleBody("ack");
    expect(() => encodeFrame("ack", { ...ack, generation: -1n }, head)).toThrow(RangeError);
    expect(() => encodeFrame("ack", { ...ack, generation: 1n << 64n }, head)).toThrow(RangeError);
    expect(() => encodeFrame("ack", { ...ack, what: 2 ** 32 }, head)).toThrow(RangeError);
    expect(() => encodeFrame("ack", { ...ack, what: 1.5 }, head)).toThrow(TypeError);
    expect(() => encodeFrame("key", { ...sampleBody("key"), publicKey: new Uint8Array(64) }, head)).toThrow(RangeError);
  });

  test("encodeFrame() refuses a tail when it is past its bound", () => {
    const head = { flags: 0, sequence: 1n };
    const long = "a".repeat(ABI.SPIFFE_ID_MAX + 1);
    expect(() => encodeFrame("assign", { instance: 1n, subject: 1, spiffeId: long }, head)).toThrow(RangeError);
    const chain = new Array<Uint8Array>(ABI.CHAIN_CERTS_MAX + 1).fill(new Uint8Array(1));
    expect(() => encodeFrame("svid", { ...sampleBody("svid"), chain }, head)).toThrow(RangeError);
    expect(() => encodeFrame("svid", { ...sampleBody("svid"), chain: [new Uint8Array(ABI.CHAIN_MAX)] }, head)).toThrow(
      RangeError,
    );
    const data = new Uint8Array(ABI.FRAME_MAX);
    expect(() => encodeFrame("tableData", { generation: 1n, offset: 0, data }, head)).toThrow(RangeError);
  });

  test("encodeFrame() keeps negative numbers when a field is signed", () => {
    const bytes = encodeFrame("ack", { ...sampleBody("ack"), error: -13 }, { flags: 0, sequence: 1n });
    const [frame] = decodeFrames(bytes);
    expect(frame?.type === "ack" && frame.body.error).toBe(-13);
  });
});

test("struct.decode() refuses when fewer bytes are left than the struct has", () => {
  const view = new DataView(new ArrayBuffer(TABLE_RULE.size));
  expect(TABLE_RULE.decode(view, 0).number).toBe(0);
  expect(() => TABLE_RULE.decode(view, 1)).toThrow(RiprapError);
  expect(() => TABLE_RULE.decode(view, -1)).toThrow(RiprapError);
});
