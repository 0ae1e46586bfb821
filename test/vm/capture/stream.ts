// Puts the packets of a TCP direction in order, and names the TLS records in it. A gap ends a stream where it is.
import type { Endpoint, TcpPacket } from "./packet.ts";

export interface TlsRecord {
  /** 20 change_cipher_spec, 21 alert, 22 handshake, 23 application_data. */
  type: number;
  /** Of the record layer: 0x0301 or 0x0303. */
  version: number;
  body: Buffer;
}

const TLS_HEAD_BYTES = 5;
const TLS_BODY_MAX = 16_384 + 256; // RFC 8446 section 5.2
const CLIENT_HELLO = 1;
const SERVER_HELLO = 2;
const SUPPORTED_VERSIONS = 43; // RFC 8446 section 4.2.1
const TLS_1_3 = 0x0304;

export class TcpStream {
  readonly source: Endpoint;
  readonly destination: Endpoint;
  readonly bytes: Buffer;

  constructor(source: Endpoint, destination: Endpoint, bytes: Buffer) {
    this.source = source;
    this.destination = destination;
    this.bytes = bytes;
  }

  /** All TLS records, or undefined when the bytes from first to last are not TLS (a last record may be cut by the capture's end). */
  tlsRecords(): TlsRecord[] | undefined {
    const records: TlsRecord[] = [];
    let at = 0;
    while (at + TLS_HEAD_BYTES <= this.bytes.length) {
      const type = this.bytes.readUInt8(at);
      const version = this.bytes.readUInt16BE(at + 1);
      const length = this.bytes.readUInt16BE(at + 3);
      if (type < 20 || type > 23 || version >> 8 !== 3 || length > TLS_BODY_MAX) return undefined;
      if (at + TLS_HEAD_BYTES + length > this.bytes.length) break;
      records.push({ type, version, body: this.bytes.subarray(at + TLS_HEAD_BYTES, at + TLS_HEAD_BYTES + length) });
      at += TLS_HEAD_BYTES + length;
    }
    return records.length > 0 ? records : undefined;
  }

  isClientHello(): boolean {
    return this.#firstHandshake()?.[0] === CLIENT_HELLO;
  }

  /** Whether it opens with a ServerHello that selects TLS 1.3. */
  isTls13ServerHello(): boolean {
    const hello = this.#firstHandshake();
    return hello?.[0] === SERVER_HELLO && selectedVersion(hello) === TLS_1_3;
  }

  #firstHandshake(): Buffer | undefined {
    const first = this.tlsRecords()?.[0];
    return first?.type === 22 ? first.body : undefined;
  }
}

/** The supported_versions extension of a ServerHello (RFC 8446 section 4.1.3). */
function selectedVersion(hello: Buffer): number | undefined {
  const sessionIdAt = 4 + 2 + 32;
  let at = sessionIdAt + 1 + (hello[sessionIdAt] ?? 0) + 2 + 1 + 2;
  while (at + 4 <= hello.length) {
    const type = hello.readUInt16BE(at);
    const length = hello.readUInt16BE(at + 2);
    if (type === SUPPORTED_VERSIONS && length === 2 && at + 6 <= hello.length) return hello.readUInt16BE(at + 4);
    at += 4 + length;
  }
  return undefined;
}

export function assembleStreams(packets: readonly TcpPacket[]): TcpStream[] {
  const open = new Map<string, TcpPacket[]>();
  const whole: TcpPacket[][] = [];
  for (const packet of packets) {
    const key = `${packet.source.address} ${packet.source.port} ${packet.destination.address} ${packet.destination.port}`;
    const known = open.get(key);
    const again = packet.syn && known?.[0]?.syn && known[0].sequence === packet.sequence;
    if (known && !(packet.syn && !again)) {
      known.push(packet);
      continue;
    }
    const fresh = [packet];
    open.set(key, fresh);
    whole.push(fresh);
  }
  return whole.map(assemble).filter((stream) => stream.bytes.length > 0);
}

function assemble(packets: readonly TcpPacket[]): TcpStream {
  const first = packets[0] as TcpPacket;
  const start = (first.sequence + (first.syn ? 1 : 0)) >>> 0;
  const pieces = packets
    .filter((packet) => packet.payload.length > 0)
    .map((packet) => ({ offset: (packet.sequence - start) | 0, payload: packet.payload }))
    .sort((a, b) => a.offset - b.offset);
  const ordered: Buffer[] = [];
  let reached = 0;
  for (const { offset, payload } of pieces) {
    if (offset > reached) break;
    const fresh = payload.subarray(reached - offset);
    ordered.push(fresh);
    reached += fresh.length;
  }
  return new TcpStream(first.source, first.destination, Buffer.concat(ordered));
}
