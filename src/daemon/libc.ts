// The few system calls that Bun lacks, through the C library. The one importer of bun:ffi; never used where node: has the call.

import { dlopen, FFIType, ptr, read } from "bun:ffi";
import { closeSync, constants as fsConstants, openSync } from "node:fs";
import { constants, release } from "node:os";
import { RiprapError } from "../error.ts";

type SyscallName = "finitModule" | "deleteModule" | "pidfdOpen" | "ioctl";
const SYSCALL: Readonly<Record<string, Readonly<Record<SyscallName, number>>>> = {
  x64: { finitModule: 313, deleteModule: 176, pidfdOpen: 434, ioctl: 16 },
  arm64: { finitModule: 273, deleteModule: 106, pidfdOpen: 434, ioctl: 29 },
};
const AF_UNIX = 1;
const O_CLOEXEC = 0o2000000;
const SOCK_DGRAM_CLOEXEC = 2 | O_CLOEXEC;
const SUN_PATH_MAX = 108;
const POLLIN = 1;
const SYSLOG_ACTION_READ_ALL = 3;
const SYSLOG_ACTION_SIZE_BUFFER = 10;
const SYSLOG_MAX = 16 << 20; // a larger kernel log is read from its end
const SOCKOPT_MAX = 4096;
const SC_CLK_TCK = 2;
const AT_EMPTY_PATH = 0x1000;
const STATX_BASIC = 0x7ff;
/** struct statx, the same on every architecture; and what of it is read here. */
const STATX_BYTES = 256;
const STATX = { uid: 20, gid: 24, inode: 32, size: 40, mtimeSeconds: 112, mtimeNs: 120, devMajor: 136, devMinor: 140 };
const PATH_MAX = 4096;
/** More interruptions of a call that takes a microsecond are no accident. */
const EINTR_MAX = 100;

const { i32, i64, i64_fast, u32, u64, ptr: pointer } = FFIType;

function open() {
  return dlopen("libc.so.6", {
    syscall: { args: [i64, i64, i64, i64], returns: i64 },
    __errno_location: { args: [], returns: pointer },
    poll: { args: [pointer, u64, i32], returns: i32 },
    getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 },
    socket: { args: [i32, i32, i32], returns: i32 },
    sendto: { args: [i32, pointer, u64, i32, pointer, u32], returns: i64 },
    close: { args: [i32], returns: i32 },
    openat: { args: [i32, pointer, i32, i32], returns: i32 },
    readlinkat: { args: [i32, pointer, pointer, u64], returns: i64_fast },
    statx: { args: [i32, pointer, i32, u32, pointer], returns: i32 },
    klogctl: { args: [i32, pointer, i32], returns: i32 },
    sysconf: { args: [i32], returns: i64 },
  }).symbols;
}

let library: ReturnType<typeof open> | undefined;

// Opened at the first call, so that importing this file does nothing.
function libc(): ReturnType<typeof open> {
  library ??= open();
  return library;
}

function syscallNumbers() {
  const numbers = SYSCALL[process.arch];
  if (numbers === undefined) {
    throw new RiprapError("ENOSYS", `Cannot make system calls: the architecture ${process.arch} is not supported`);
  }
  return numbers;
}

/** Those of the kernel's key service, which node:os does not list; the module uses them. */
const KEY_ERRNO = { ENOKEY: 126, EKEYEXPIRED: 127, EKEYREVOKED: 128, EKEYREJECTED: 129 } as const;
const ERRNO_NAME = new Map<number, string>(
  Object.entries({ ...constants.errno, ...KEY_ERRNO }).map(([name, number]) => [number, name]),
);

/** The name of an errno (positive), `EPERM`; `errno 999` for one without a name. */
export function errnoName(errno: number): string {
  return ERRNO_NAME.get(errno) ?? `errno ${errno}`;
}

// Must be the first thing after a failed call: any other call may change errno.
function failure(what: string): RiprapError {
  const location = libc().__errno_location();
  const name = errnoName(location === null ? 0 : read.i32(location));
  return new RiprapError(name, `Cannot ${what}: ${name}`);
}

function cString(text: string): Buffer {
  if (text.includes("\0")) throw new TypeError("a C string holds no NUL");
  return Buffer.from(`${text}\0`, "utf8");
}

/** finit_module(2) with module parameters "a=1 b=2". RiprapError with the errno as code. */
export function finitModule(path: string, parameters: string): void {
  const fd = openSync(path, "r");
  try {
    const text = cString(parameters);
    const result = libc().syscall(syscallNumbers().finitModule, fd, ptr(text), 0);
    if (result !== 0n) throw failure(`load the module ${path}`);
  } finally {
    closeSync(fd);
  }
}

/** delete_module(2), never waiting (O_NONBLOCK). RiprapError `EWOULDBLOCK`/`EAGAIN` or `EBUSY` when it is in use. */
export function deleteModule(name: string): void {
  const text = cString(name);
  const result = libc().syscall(syscallNumbers().deleteModule, ptr(text), fsConstants.O_NONBLOCK, 0);
  if (result !== 0n) throw failure(`unload the module ${name}`);
}

/** ioctl(2) with a struct, which the call may change. RiprapError with the errno's name as code. */
export function ioctl(fd: number, request: number, argument: Uint8Array): void {
  if (libc().syscall(syscallNumbers().ioctl, fd, request, ptr(argument)) !== 0n) throw failure("ask the device");
}

/** pidfd_open(2): a descriptor that means this process and never a later one with its number. `ESRCH` when it is gone. */
export function pidfdOpen(pid: number): number {
  const fd = libc().syscall(syscallNumbers().pidfdOpen, pid, 0, 0);
  if (fd < 0n) throw failure(`pin process ${pid}`);
  return Number(fd);
}

/** struct pollfd; none waits between its filling and its use. */
const polled = new Int32Array(2);

/** Does the process of this pidfd still run (a zombie does not)? */
export function pidfdIsAlive(fd: number): boolean {
  for (let tries = 0; ; tries++) {
    polled[0] = fd;
    polled[1] = POLLIN;
    const ready = libc().poll(ptr(polled), 1, 0);
    if (ready >= 0) return ready === 0;
    const thrown = failure("poll a pidfd");
    // The runtime stops its threads by signals when it collects.
    if (thrown.code !== "EINTR" || tries === EINTR_MAX) throw thrown;
  }
}

/** What is read of a file: of one that is asked for often. */
export interface FileFacts {
  readonly uid: number;
  readonly gid: number;
  /** Device and inode. */
  readonly identity: string;
  size(): bigint;
  mtimeNs(): bigint;
}

/** statx(2) below an open folder, the name "" being the folder itself; undefined where there is no such file, or no right to see it. Good until the next call. */
export function tryStatAt(folder: number, name: string): FileFacts | undefined {
  const view = room().stat;
  if (libc().statx(folder, ptr(nameBytes(name)), name === "" ? AT_EMPTY_PATH : 0, STATX_BASIC, ptr(view)) !== 0)
    return undefined;
  const word = (at: number) => view.getUint32(at, true);
  return {
    uid: word(STATX.uid),
    gid: word(STATX.gid),
    identity: `${word(STATX.devMajor)}:${word(STATX.devMinor)}:${word(STATX.inode + 4)}:${word(STATX.inode)}`,
    size: () => view.getBigUint64(STATX.size, true),
    mtimeNs: () => view.getBigInt64(STATX.mtimeSeconds, true) * 1_000_000_000n + BigInt(word(STATX.mtimeNs)),
  };
}

/** readlinkat(2) below an open folder; undefined where there is no such link, or no right to read it. */
export function tryReadLinkAt(folder: number, name: string): string | undefined {
  const { link } = room();
  const length = Number(libc().readlinkat(folder, ptr(nameBytes(name)), ptr(link), PATH_MAX));
  return length < 0 ? undefined : link.toString("utf8", 0, length);
}

/** openat(2) for reading below an open folder; undefined where there is no such file, or no right to read it. */
export function tryOpenAt(folder: number, name: string): number | undefined {
  const fd = libc().openat(folder, ptr(nameBytes(name)), fsConstants.O_RDONLY | O_CLOEXEC, 0);
  return fd < 0 ? undefined : fd;
}

interface Room {
  readonly stat: DataView;
  readonly link: Buffer;
}

/** What one call needs until it has its answer: none waits in between. */
let rooms: Room | undefined;

function room(): Room {
  rooms ??= { stat: new DataView(new ArrayBuffer(STATX_BYTES)), link: Buffer.allocUnsafeSlow(PATH_MAX) };
  return rooms;
}

const names = new Map<string, Buffer>();

/** Names below /proc/PID are literals of ours, so there are few. */
function nameBytes(name: string): Buffer {
  let bytes = names.get(name);
  if (bytes === undefined) {
    bytes = cString(name);
    names.set(name, bytes);
  }
  return bytes;
}

/** getsockopt(2): the bytes that the kernel wrote, at most `size`. */
export function getsockoptBytes(fd: number, level: number, name: number, size: number): Uint8Array {
  if (size < 1 || size > SOCKOPT_MAX) throw new RangeError(`a socket option has 1 to ${SOCKOPT_MAX} bytes`);
  const value = new Uint8Array(size);
  const length = new Uint32Array([size]);
  if (libc().getsockopt(fd, level, name, ptr(value), ptr(length)) !== 0)
    throw failure(`read socket option ${level}/${name}`);
  return value.subarray(0, length[0]);
}

/** Sends one datagram to a Unix socket; a leading "@" means the abstract namespace. */
export function sendUnixDatagram(path: string, text: string): void {
  const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : `${path}\0`, "utf8");
  if (name.length > SUN_PATH_MAX) throw new RangeError(`a socket path has at most ${SUN_PATH_MAX} bytes`);
  const address = new Uint8Array(2 + name.length);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  const message = Buffer.from(text, "utf8");
  const fd = libc().socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
  if (fd < 0) throw failure("open a datagram socket");
  try {
    const sent = libc().sendto(fd, ptr(message), message.length, 0, ptr(address), address.length);
    if (sent < 0n) throw failure(`send to ${path}`);
  } finally {
    libc().close(fd);
  }
}

/** The kernel log as dmesg shows it, its last 16 MiB. `EPERM` without CAP_SYSLOG. */
export function readKernelLog(): string {
  const size = libc().klogctl(SYSLOG_ACTION_SIZE_BUFFER, null, 0);
  if (size < 0) throw failure("read the kernel log");
  const buffer = new Uint8Array(Math.min(size, SYSLOG_MAX));
  const length = libc().klogctl(SYSLOG_ACTION_READ_ALL, ptr(buffer), buffer.length);
  if (length < 0) throw failure("read the kernel log");
  return new TextDecoder().decode(buffer.subarray(0, length));
}

/** uname -r */
export function kernelRelease(): string {
  return release();
}

/** Clock ticks a second, the unit of /proc/PID/stat. */
export function clockTicks(): number {
  return Number(libc().sysconf(SC_CLK_TCK));
}
