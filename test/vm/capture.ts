// Reads what a VM's network card saw (pcap of Ethernet frames): TCP streams put together, TLS records named. Never decrypts anything.
import { RiprapError } from "../../src/error.ts";
import { decodeTcp, type TcpPacket } from "./capture/packet.ts";
import { assembleStreams, type TcpStream } from "./capture/stream.ts";

const PCAP_MAGIC_MICROSECONDS = 0xa1b2c3d4;
const PCAP_HEAD_BYTES = 24;
const PACKET_HEAD_BYTES = 16;

export class Capture {
  /** Every frame, as it was on the wire. */
  readonly frames: readonly Uint8Array[];
  readonly tcp: readonly TcpPacket[];

  constructor(frames: readonly Uint8Array[]) {
    this.frames = frames;
    this.tcp = frames.map(decodeTcp).filter((packet) => packet !== undefined);
  }

  /** One entry for each direction of each connection whose bytes were seen. */
  streams(filter: { port?: number } = {}): TcpStream[] {
    const { port } = filter;
    return assembleStreams(
      port === undefined
        ? this.tcp
        : this.tcp.filter((packet) => packet.source.port === port || packet.destination.port === port),
    );
  }

  /** Whether the bytes are in any single frame, or in a TCP stream across the edges of its packets. */
  containsPayload(bytes: Uint8Array | string): boolean {
    const needle = Buffer.from(bytes as string);
    if (needle.length === 0) throw new RangeError("An empty payload is in every packet");
    const inFrame = this.frames.some((frame) =>
      Buffer.from(frame.buffer, frame.byteOffset, frame.length).includes(needle),
    );
    return inFrame || this.streams().some((stream) => stream.bytes.includes(needle));
  }

  /** The opening packets (SYN without ACK) to a port, and to an address if one is given. */
  synsTo(port: number, address?: string): TcpPacket[] {
    return this.tcp.filter(
      (packet) =>
        packet.syn &&
        !packet.ack &&
        packet.destination.port === port &&
        (!address || packet.destination.address === address),
    );
  }

  /** What was captured after `earlier`, another reading of the same card. */
  since(earlier: Capture): Capture {
    return new Capture(this.frames.slice(earlier.frames.length));
  }
}

/** Takes the whole packets of a file that may still grow. */
export function parseCapture(file: Uint8Array): Capture {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.length);
  if (bytes.length < PCAP_HEAD_BYTES || bytes.readUInt32LE(0) !== PCAP_MAGIC_MICROSECONDS)
    throw new RiprapError("capture_malformed", "Cannot read the capture: it is not a little-endian pcap file");
  const frames: Uint8Array[] = [];
  let at = PCAP_HEAD_BYTES;
  while (at + PACKET_HEAD_BYTES <= bytes.length) {
    const length = bytes.readUInt32LE(at + 8);
    if (at + PACKET_HEAD_BYTES + length > bytes.length) break;
    frames.push(bytes.subarray(at + PACKET_HEAD_BYTES, at + PACKET_HEAD_BYTES + length));
    at += PACKET_HEAD_BYTES + length;
  }
  return new Capture(frames);
}
