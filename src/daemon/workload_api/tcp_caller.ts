// The process at the other end of a loopback TCP connection: found by the kernel's table of sockets and by who has the socket open. Refuses what is not certain.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { isIPv4 } from "node:net";
import { endianness } from "node:os";
import { RiprapError } from "../../error.ts";

const ESTABLISHED = "01";
/** Processes looked at in one go: a large machine's take a tenth of a second, and calls are answered in between. */
const LOOKS_MAX = 32;
/** Far more than loopback connections that wait for an identity on one machine. */
const TABLE_BYTES_MAX = 16 << 20;

export interface TcpEnd {
  readonly address: string;
  readonly port: number;
}

/** One end of a connection of this machine. */
export interface TcpSocket {
  readonly inode: string;
  /** Of the process that made the socket. */
  readonly uid: number;
}

export interface SocketHolder {
  readonly pid: number;
  /** Its descriptor of the socket. */
  readonly fd: number;
}

/** The caller's end of the connection that `own` accepted from `peer`. RiprapError `not_found` when the kernel knows of none. */
export function findTcpSocket(peer: TcpEnd, own: TcpEnd): TcpSocket {
  const table = isIPv4(peer.address) ? "/proc/net/tcp" : "/proc/net/tcp6";
  const found = parseTcpTable(readFileSync(table, "latin1").slice(0, TABLE_BYTES_MAX), peer, own);
  if (found !== undefined) return found;
  throw new RiprapError("not_found", "Cannot tell who calls: the kernel knows of no such connection");
}

/** Of the text of /proc/net/tcp or tcp6. */
export function parseTcpTable(text: string, peer: TcpEnd, own: TcpEnd): TcpSocket | undefined {
  const [local, remote] = [endOf(peer), endOf(own)];
  for (const line of text.split("\n").slice(1)) {
    const [, from, to, state, , , , uid = "", , inode = ""] = line.trim().split(/\s+/);
    // Inode 0: nobody has it open any more.
    if (from === local && to === remote && state === ESTABLISHED && inode !== "0") return { inode, uid: Number(uid) };
  }
  return undefined;
}

/**
 * The one process that has the socket open. RiprapError `not_found` when none has, `shared` when several have: each of them could read what
 * is meant for another.
 */
export async function findHolder(inode: string): Promise<SocketHolder> {
  const target = `socket:[${inode}]`;
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const holders: SocketHolder[] = [];
  for (let at = 0; at < pids.length; at += LOOKS_MAX) {
    for (const pid of pids.slice(at, at + LOOKS_MAX)) {
      const fd = descriptorsOf(pid).find((name) => linkOf(`/proc/${pid}/fd/${name}`) === target);
      if (fd !== undefined) holders.push({ pid: Number(pid), fd: Number(fd) });
    }
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  const [holder, other] = holders;
  if (holder === undefined)
    throw new RiprapError("not_found", "Cannot tell who calls: no process of this machine has the connection open");
  if (other === undefined) return holder;
  const fact = `processes ${holder.pid} and ${other.pid} share the connection`;
  throw new RiprapError("shared", `Cannot tell who calls: ${fact}`);
}

/** Does the process still have the socket there? */
export function holdsSocket({ pid, fd }: SocketHolder, inode: string): boolean {
  return linkOf(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`;
}

function descriptorsOf(pid: string): readonly string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`);
  } catch {
    return [];
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** As the table writes it: each four bytes of the address in the machine's own order. */
function endOf({ address, port }: TcpEnd): string {
  const bytes = isIPv4(address) ? Buffer.from(address.split(".").map(Number)) : LOOPBACK_6;
  const words = Array.from({ length: bytes.length / 4 }, (_, index) => bytes.subarray(4 * index, 4 * index + 4));
  const ordered = words.map((word) => (endianness() === "LE" ? Buffer.from(word).reverse() : word).toString("hex"));
  return `${ordered.join("")}:${port.toString(16).padStart(4, "0")}`.toUpperCase();
}

/** ::1, the only address of its family on the loopback. */
const LOOPBACK_6 = Buffer.from("00000000000000000000000000000001", "hex");
