// The reader of captures, on frames made here: what it does not find is not there.
import { describe, expect, test } from "bun:test";
import { parseCapture } from "./capture.ts";

interface Piece {
  sequence: number;
  flags?: number;
  payload?: Uint8Array | string;
}

const SYN = 2;
const ACK = 16;

describe("parseCapture()", () => {
  test("finds a payload across the edge of two packets when they came in the wrong order", () => {
    const capture = parseCapture(
      pcap([
        { sequence: 99, flags: SYN },
        { sequence: 105, payload: "payload" },
        { sequence: 100, payload: "some " },
      ]),
    );
    expect(capture.containsPayload("some payload")).toBe(true);
    expect(capture.containsPayload("some  payload")).toBe(false);
  });

  test("counts a SYN by its port and address when others are there", () => {
    const capture = parseCapture(
      pcap([
        { sequence: 1, flags: SYN },
        { sequence: 1, flags: SYN | ACK },
      ]),
    );
    expect(capture.synsTo(443, "10.0.0.2")).toHaveLength(1);
    expect(capture.synsTo(443, "10.0.0.3")).toHaveLength(0);
    expect(capture.synsTo(80)).toHaveLength(0);
  });

  test("names a ClientHello when a stream opens with one, and no TLS when it does not", () => {
    const hello = Uint8Array.of(22, 3, 1, 0, 4, 1, 0, 0, 0);
    expect(
      parseCapture(pcap([{ sequence: 7, payload: hello }]))
        .streams()[0]
        ?.isClientHello(),
    ).toBe(true);
    expect(
      parseCapture(pcap([{ sequence: 7, payload: "GET / HTTP/1.1" }]))
        .streams()[0]
        ?.tlsRecords(),
    ).toBeUndefined();
  });

  test("leaves out a packet that is not whole yet, and refuses what is no capture", () => {
    const whole = pcap([
      { sequence: 1, payload: "one" },
      { sequence: 4, payload: "two" },
    ]);
    expect(parseCapture(whole.subarray(0, -1)).frames).toHaveLength(1);
    expect(() => parseCapture(Buffer.from("not a capture, but long enough"))).toThrow("not a little-endian pcap");
    expect(() => parseCapture(whole).containsPayload("")).toThrow(RangeError);
  });
});

/** Frames from 10.0.0.1:40000 to 10.0.0.2:443. */
function pcap(pieces: readonly Piece[]): Buffer {
  const head = Buffer.alloc(24);
  head.writeUInt32LE(0xa1b2c3d4, 0);
  return Buffer.concat([head, ...pieces.flatMap((piece) => packet(frame(piece)))]);
}

function packet(bytes: Buffer): Buffer[] {
  const head = Buffer.alloc(16);
  head.writeUInt32LE(bytes.length, 8);
  head.writeUInt32LE(bytes.length, 12);
  return [head, bytes];
}

function frame({ sequence, flags = ACK, payload = "" }: Piece): Buffer {
  const body = Buffer.from(payload as string);
  const ethernet = Buffer.alloc(14);
  ethernet.writeUInt16BE(0x0800, 12);
  const ip = Buffer.alloc(20);
  ip.writeUInt8(0x45, 0);
  ip.writeUInt16BE(40 + body.length, 2);
  ip.writeUInt8(6, 9);
  ip.set([10, 0, 0, 1, 10, 0, 0, 2], 12);
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(40000, 0);
  tcp.writeUInt16BE(443, 2);
  tcp.writeUInt32BE(sequence, 4);
  tcp.writeUInt8(0x50, 12);
  tcp.writeUInt8(flags, 13);
  return Buffer.concat([ethernet, ip, tcp, body]);
}
