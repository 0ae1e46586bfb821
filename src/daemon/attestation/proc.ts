// Reads /proc/PID, bounded. Never trusts that a number still means the process it meant: see pin.ts.

import { closeSync, openSync, readlinkSync, readSync, statSync } from "node:fs";
import { RiprapError } from "../../error.ts";
import { clockTicks } from "../libc.ts";

/** /proc/PID/status with 65,536 groups is cut; nothing else of it is that long. */
export const TEXT_MAX = 65_536;
export const ARGV_MAX = 4096; // as the kernel module: RIPRAP_ARGV_MAX
/** Fields of /proc/PID/stat after the name, the state being 0; a reader without the right to trace the process sees 0. */
const PARENT = 1;
const START_TIME = 19;
const START_CODE = 23;
const START_STACK = 25;
const NS_PER_SECOND = 1_000_000_000n;

export interface ProcessStat {
  readonly name: string;
  readonly parentPid: number;
  readonly startTimeNs: bigint;
  /** Where its code and its stack were put, which is new at each exec. */
  readonly layout: string;
}

export interface ProcessStatus {
  /** Effective. */
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly capabilities: bigint;
  readonly noNewPrivs: boolean;
  readonly seccomp: number;
}

export interface ProcessFiles {
  readonly stat: ProcessStat;
  readonly status: ProcessStatus;
  /** Empty for a kernel thread, or when it may not be read. */
  readonly exe: string;
  /** Inode of the user namespace; undefined when it may not be read. */
  readonly userNamespace: number | undefined;
  readonly argv: string;
  readonly isArgvCut: boolean;
  readonly cgroup: string;
}

/** A living process; RiprapError `not_found` when there is none. Its `stat` is read last: what came before was of the program that it names, or of one before that. */
export function readProcess(pid: number): ProcessFiles {
  const exe = tryReadLink(pid, "exe") ?? "";
  const userNamespace = parseNamespace(tryReadLink(pid, "ns/user"));
  const argv = tryReadText(pid, "cmdline", ARGV_MAX) ?? "";
  const cgroup = tryReadText(pid, "cgroup", TEXT_MAX) ?? "";
  const status = readStatus(pid);
  const stat = readStat(pid);
  return { stat, status, exe, userNamespace, argv, isArgvCut: isArgvCut(argv), cgroup: parseCgroup(cgroup) };
}

/** `user:[4026531837]`, as namespaces(7) has it: the inode. */
export function parseNamespace(link: string | undefined): number | undefined {
  const inode = /^\w+:\[(\d+)\]$/.exec(link ?? "")?.[1];
  return inode === undefined ? undefined : Number(inode);
}

let own: number | undefined;

/** Inode of the user namespace that this daemon is in. Throws Error where /proc does not tell. */
export function ownUserNamespace(): number {
  own ??= parseNamespace(readlinkSync("/proc/self/ns/user"));
  if (own === undefined) throw new Error("/proc/self/ns/user is no link to a namespace");
  return own;
}

export function isArgvCut(argv: string): boolean {
  return Buffer.byteLength(argv) >= ARGV_MAX;
}

/** /proc/PID/stat; RiprapError `not_found`. */
export function readStat(pid: number): ProcessStat {
  const text = tryReadText(pid, "stat", TEXT_MAX);
  const stat = text === undefined ? undefined : parseStat(text);
  if (stat === undefined) throw new RiprapError("not_found", `Cannot read process ${pid}: there is no such process`);
  return stat;
}

/** When the process started; undefined when there is none, or only what its parent has yet to be told of. */
export function tryReadRunning(pid: number): bigint | undefined {
  const text = tryReadText(pid, "stat", TEXT_MAX);
  const stat = text === undefined ? undefined : parseStat(text);
  if (text === undefined || stat === undefined) return undefined;
  return "ZX".includes(text.charAt(text.lastIndexOf(")") + 2)) ? undefined : stat.startTimeNs;
}

/**
 * Tells the program that runs in a process from the next one there: where its code and its stack were put, which is new at each
 * exec, and its file. Undefined when it ends meanwhile.
 */
export function tryReadProgram(pid: number): string | undefined {
  const text = tryReadText(pid, "stat", TEXT_MAX);
  const stat = text === undefined ? undefined : parseStat(text);
  return stat === undefined ? undefined : `${tryReadFile(pid)} ${stat.layout}`;
}

/** The inode of the executable: it stays when the file is renamed, replaced or deleted, as an upgrade does under a program that runs. */
function tryReadFile(pid: number): string {
  try {
    const { dev, ino } = statSync(`/proc/${pid}/exe`, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return "";
  }
}

/** /proc/PID/status; RiprapError `not_found`. */
export function readStatus(pid: number): ProcessStatus {
  const text = tryReadText(pid, "status", TEXT_MAX);
  if (text === undefined) throw new RiprapError("not_found", `Cannot read process ${pid}: there is no such process`);
  return parseStatus(text);
}

/** The name stands in brackets and may hold any byte, a bracket too: it ends at the last one. */
export function parseStat(text: string): ProcessStat | undefined {
  const open = text.indexOf("(");
  const close = text.lastIndexOf(")");
  if (open < 0 || close < open) return undefined;
  const starts = [close + 2];
  for (let field = 0; field <= START_STACK; field++) {
    const space = text.indexOf(" ", starts[field]);
    // A shorter one is none of Linux's.
    if (space < 0) return undefined;
    starts.push(space + 1);
  }
  const fieldOf = (field: number) => text.slice(starts[field], (starts[field + 1] as number) - 1);
  const parentPid = Number(fieldOf(PARENT));
  const ticks = fieldOf(START_TIME);
  if (!/^\d+$/.test(ticks) || !Number.isInteger(parentPid)) return undefined;
  const layout = `${fieldOf(START_CODE)} ${fieldOf(START_STACK)}`;
  return { name: text.slice(open + 1, close), parentPid, startTimeNs: nsOfTicks(BigInt(ticks)), layout };
}

export function parseStatus(text: string): ProcessStatus {
  const field = (name: string): readonly string[] => {
    // The first line is the name, which the process chooses.
    const at = text.indexOf(`\n${name}:`) + 1;
    if (at === 0) return [];
    const end = text.indexOf("\n", at);
    const line = text.slice(at + name.length + 1, end < 0 ? undefined : end).trim();
    return line === "" ? [] : line.split(/\s+/);
  };
  return {
    uid: Number(field("Uid")[1] ?? -1),
    gid: Number(field("Gid")[1] ?? -1),
    groups: field("Groups").map(Number),
    capabilities: BigInt(`0x${field("CapEff")[0] ?? "0"}`),
    noNewPrivs: field("NoNewPrivs")[0] === "1",
    seccomp: Number(field("Seccomp")[0] ?? 0),
  };
}

/** The path in the unified hierarchy. */
export function parseCgroup(text: string): string {
  return /^0::(.*)$/m.exec(text)?.[1] ?? "";
}

/** Undefined when there is no such process, no such link, or no right to read it. */
export function tryReadLink(pid: number, name: "exe" | "cwd" | "root" | "ns/user"): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/${name}`);
  } catch {
    return undefined;
  }
}

/** `most` is TEXT_MAX at most. */
export function tryReadText(pid: number, name: string, most: number): string | undefined {
  try {
    return tryReadAll(openSync(`/proc/${pid}/${name}`, "r"), most);
  } catch {
    return undefined;
  }
}

/** What one reading needs until it has its text: none waits in between. */
let scratch: Buffer | undefined;

/** To the end or to `most`, TEXT_MAX at most; closes it. */
export function tryReadAll(fd: number, most: number): string | undefined {
  try {
    scratch ??= Buffer.allocUnsafeSlow(TEXT_MAX);
    let length = 0;
    for (;;) {
      const got = readSync(fd, scratch, length, most - length, null);
      length += got;
      if (got === 0 || length === most) return scratch.toString("utf8", 0, length);
    }
  } catch {
    return undefined; // ESRCH: it ended between open and read
  } finally {
    closeSync(fd);
  }
}

let ticksPerSecond: bigint | undefined;

function nsOfTicks(ticks: bigint): bigint {
  ticksPerSecond ??= BigInt(clockTicks());
  return (ticks * NS_PER_SECOND) / ticksPerSecond;
}
