// Keeps what is slow to make (packages, images, kernels, modules) under .cache/, by the digest of all that it was made from.
// Every entry can be deleted at any time; an entry that exists is whole.
import { mkdir, mkdtemp, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { join, resolve } from "node:path";
import { RiprapError } from "../../../src/error.ts";
import { withLock } from "./lock.ts";

export const PROJECT_DIR = resolve(import.meta.dir, "../../..");
const CACHE_DIR = join(PROJECT_DIR, ".cache", "vm");
const LOCK_DIR = join(CACHE_DIR, "lock");

/** Longer than any run, shorter than it takes a day's changes to fill a disk with binaries. */
const KEEP_UNUSED_MS = 2 * 3_600_000;
/** A kernel is made for hours on a machine with other work, and nothing moves at the top of its directory meanwhile. */
const KEEP_UNFINISHED_MS = 24 * 3_600_000;
/** One for each kernel line, and the lists they came from: they stay. */
const KEPT_KINDS = ["kernel", "packages"];

/** Entries that this process is at; one each. */
const making = new Map<string, Promise<string>>();

/** Sixteen hexadecimal digits that change with any of the parts. */
export function digestOf(...parts: (string | Uint8Array)[]): string {
  const hasher = new Bun.CryptoHasher("sha256");
  for (const part of parts) {
    hasher.update(`${typeof part === "string" ? Buffer.byteLength(part) : part.length}:`);
    hasher.update(part);
  }
  return hasher.digest("hex").slice(0, 16);
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/**
 * The directory `kind-key` of the cache, filled by `build` when it is not there. `build` works in a directory of its own that is
 * renamed at the end, so that an interruption leaves no half of an entry. Another run that needs the same waits for it.
 */
export function cached(kind: string, key: string, build: (directory: string) => Promise<void>): Promise<string> {
  const name = `${kind}-${key}`;
  // VMs that boot side by side need the same parts.
  const made = making.get(name) ?? make(kind, name, build).finally(() => making.delete(name));
  making.set(name, made);
  return made;
}

async function make(kind: string, name: string, build: (directory: string) => Promise<void>): Promise<string> {
  const entry = join(CACHE_DIR, name);
  if (await exists(entry)) {
    await utimes(entry, new Date(), new Date()).catch(() => {}); // in use: see prune()
    return entry;
  }
  await mkdir(LOCK_DIR, { recursive: true });
  // A file a kind: as many as there are entries would never be deleted.
  const lock = join(LOCK_DIR, KEPT_KINDS.includes(kind) ? name : kind);
  await withLock(lock, async () => {
    if (!(await exists(entry))) await fill(entry, build);
  });
  if (!KEPT_KINDS.includes(kind)) await prune(kind, entry);
  return entry;
}

async function fill(entry: string, build: (directory: string) => Promise<void>): Promise<void> {
  const unfinished = await mkdtemp(join(CACHE_DIR, "unfinished-"));
  try {
    await build(unfinished);
    await rename(unfinished, entry);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

/** Deletes what this entry has outdated, and what an interrupted run left; a run beside this one keeps what it uses. */
async function prune(kind: string, kept: string): Promise<void> {
  for (const name of await readdir(CACHE_DIR)) {
    const path = join(CACHE_DIR, name);
    const isUnfinished = name.startsWith("unfinished-");
    if (path === kept || !(isUnfinished || name.startsWith(`${kind}-`))) continue;
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Date.now() }));
    if (Date.now() - mtimeMs > (isUnfinished ? KEEP_UNFINISHED_MS : KEEP_UNUSED_MS))
      await rm(path, { recursive: true, force: true });
  }
}

/** Runs a program of this machine; its standard output, or a RiprapError with what it said. */
export async function runHost(
  command: readonly string[],
  options: { cwd?: string; stdin?: Uint8Array } = {},
): Promise<string> {
  const path = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`; // depmod and mke2fs, for who is not root
  const child = Bun.spawn([...command], {
    cwd: options.cwd ?? PROJECT_DIR,
    env: { ...process.env, PATH: path, LC_ALL: "C" },
    stdin: options.stdin ?? "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0)
    throw new RiprapError(
      "host_command_failed",
      `Cannot run ${command.slice(0, 8).join(" ")}: exit status ${code}\n${(stderr + stdout).slice(-4000)}`,
    );
  return stdout;
}
