// Finds where a process listens for TCP, from /proc. Never looks at a connection.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** `address` undefined: at every address of the machine. */
export interface Listening {
  readonly address: string | undefined;
  readonly port: number;
}

/** Descriptors and sockets looked at: a server with more listens on the first of them. */
const DESCRIPTORS_MAX = 4096;
const LISTENING_MAX = 64;
/** include/net/tcp_states.h */
const TCP_LISTEN = "0A";

/** Without loopback addresses; nothing for a process that has ended. */
export function listListening(pid: number, proc = "/proc"): readonly Listening[] {
  try {
    const inodes = socketInodes(`${proc}/${pid}/fd`);
    if (inodes.size === 0) return [];
    const lines = ["tcp", "tcp6"].flatMap((name) => readLines(`${proc}/${pid}/net/${name}`));
    const found = new Map<string, Listening>();
    for (const line of lines) {
      const listening = parseListening(line, inodes);
      if (listening !== undefined) found.set(`${listening.address} ${listening.port}`, listening);
      if (found.size === LISTENING_MAX) break;
    }
    return [...found.values()];
  } catch {
    return [];
  }
}

function socketInodes(directory: string): Set<string> {
  const inodes = new Set<string>();
  for (const name of readdirSync(directory).slice(0, DESCRIPTORS_MAX)) {
    const [, inode] = /^socket:\[(\d+)\]$/.exec(readlink(`${directory}/${name}`)) ?? [];
    if (inode !== undefined) inodes.add(inode);
  }
  return inodes;
}

function readlink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, "latin1").split("\n").slice(1);
  } catch {
    return [];
  }
}

/** A line of /proc/net/tcp: place, local and remote end, state, …, inode. */
export function parseListening(line: string, inodes: ReadonlySet<string>): Listening | undefined {
  const columns = line.trim().split(/\s+/);
  const [host = "", port = ""] = (columns[1] ?? "").split(":");
  if (columns[3] !== TCP_LISTEN || !inodes.has(columns[9] ?? "")) return undefined;
  const address = parseKernelAddress(host);
  if (address === undefined || address.startsWith("127.") || address === "::1") return undefined;
  const isAny = address === "0.0.0.0" || address === "::";
  return { address: isAny ? undefined : address, port: Number.parseInt(port, 16) };
}

/** Words of 32 bits in the machine's own (little-endian) order. */
function parseKernelAddress(hex: string): string | undefined {
  if (!/^(?:[0-9A-F]{8}|[0-9A-F]{32})$/.test(hex)) return undefined;
  const bytes = Buffer.from(hex, "hex");
  for (let at = 0; at < bytes.length; at += 4) bytes.subarray(at, at + 4).reverse();
  if (bytes.length === 4) return bytes.join(".");
  const mapped = bytes.subarray(0, 12).toString("hex") === "00000000000000000000ffff";
  if (mapped) return bytes.subarray(12).join(".");
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16));
  const url = new URL(`http://[${groups.join(":")}]`);
  return url.hostname.slice(1, -1);
}
