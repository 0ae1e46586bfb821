// Decodes one Ethernet frame as far as TCP, IPv4 and IPv6 alike; anything else is undefined.

export interface Endpoint {
  address: string;
  port: number;
}

export interface TcpPacket {
  source: Endpoint;
  destination: Endpoint;
  sequence: number;
  syn: boolean;
  ack: boolean;
  fin: boolean;
  rst: boolean;
  payload: Buffer;
}

const ETHERNET_BYTES = 14;
const IPV6_BYTES = 40;
const TCP = 6;

export function decodeTcp(frame: Uint8Array): TcpPacket | undefined {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
  if (bytes.length < ETHERNET_BYTES) return undefined;
  const type = bytes.readUInt16BE(12);
  const packet = bytes.subarray(ETHERNET_BYTES);
  if (type === 0x0800) return decodeIpv4(packet);
  if (type === 0x86dd) return decodeIpv6(packet);
  return undefined;
}

function decodeIpv4(packet: Buffer): TcpPacket | undefined {
  if (packet.length < 20 || packet[9] !== TCP) return undefined;
  const head = ((packet[0] ?? 0) & 0x0f) * 4;
  const segment = packet.subarray(head, packet.readUInt16BE(2));
  return decodeSegment(segment, [...packet.subarray(12, 16)].join("."), [...packet.subarray(16, 20)].join("."));
}

function decodeIpv6(packet: Buffer): TcpPacket | undefined {
  if (packet.length < IPV6_BYTES || packet[6] !== TCP) return undefined;
  const segment = packet.subarray(IPV6_BYTES, IPV6_BYTES + packet.readUInt16BE(4));
  return decodeSegment(segment, ipv6Text(packet.subarray(8, 24)), ipv6Text(packet.subarray(24, 40)));
}

function decodeSegment(segment: Buffer, source: string, destination: string): TcpPacket | undefined {
  if (segment.length < 20) return undefined;
  const flags = segment[13] ?? 0;
  return {
    source: { address: source, port: segment.readUInt16BE(0) },
    destination: { address: destination, port: segment.readUInt16BE(2) },
    sequence: segment.readUInt32BE(4),
    fin: (flags & 0x01) !== 0,
    syn: (flags & 0x02) !== 0,
    rst: (flags & 0x04) !== 0,
    ack: (flags & 0x10) !== 0,
    payload: segment.subarray(((segment[12] ?? 0) >> 4) * 4),
  };
}

/** RFC 5952's shortest form, for the addresses of the laboratory. */
function ipv6Text(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16));
  const text = groups.join(":");
  const longest = [...text.matchAll(/(?:^|:)0(?::0)+(?=:|$)/g)].sort((a, b) => b[0].length - a[0].length)[0];
  if (!longest) return text;
  return `${text.slice(0, longest.index)}::${text.slice(longest.index + longest[0].length).replace(/^:/, "")}`;
}
