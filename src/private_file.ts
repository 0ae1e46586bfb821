// Files and directories that belong to one user alone: made 0600 and 0700, replaced whole or not at all, and refused when anyone else can read them.
import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  type Stats,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { RiprapError } from "./error.ts";

/** Makes the directory (and missing parents) with mode 0700, or checks that an existing one is private. Throws `state_not_private`. */
export function ensurePrivateDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new RiprapError("state_unusable", `Cannot make the state directory ${path}: ${(cause as Error).message}`, {
      cause,
    });
  }
  requirePrivateDirectory(path);
}

/** Throws RiprapError `state_not_private` unless the path is a directory of this user (or root) that nobody else can enter. */
export function requirePrivateDirectory(path: string): void {
  let facts: Stats;
  try {
    facts = lstatSync(path);
  } catch (cause) {
    throw new RiprapError(
      "state_missing",
      `Cannot use the state directory ${path}: it does not exist; make it with \`riprap init\``,
      { cause },
    );
  }
  if (!facts.isDirectory())
    throw new RiprapError("state_not_private", `Cannot use the state directory ${path}: it is not a directory`);
  requirePrivate(path, facts, "chmod 700");
}

/** Reads a private file of at most `limit` bytes. Throws `state_missing`, `state_not_private` or `state_too_large`. Wipe the answer when it is a key. */
export function readPrivateFile(path: string, limit: number): Uint8Array {
  const file = openNoFollow(path);
  try {
    const facts = fstatSync(file);
    if (!facts.isFile()) throw new RiprapError("state_not_private", `Cannot use ${path}: it is not a regular file`);
    requirePrivate(path, facts, "chmod 600");
    if (facts.size > limit)
      throw new RiprapError("state_too_large", `Cannot use ${path}: it is larger than ${limit} bytes`);
    const bytes = new Uint8Array(facts.size);
    let length = 0;
    while (length < bytes.length) {
      const got = readSync(file, bytes, length, bytes.length - length, length);
      if (got === 0) break;
      length += got;
    }
    return bytes.subarray(0, length);
  } finally {
    closeSync(file);
  }
}

/** Throws like readPrivateFile, without reading: for a file that something else opens by its path. */
export function requirePrivateFile(path: string): void {
  const file = openNoFollow(path);
  try {
    const facts = fstatSync(file);
    if (!facts.isFile()) throw new RiprapError("state_not_private", `Cannot use ${path}: it is not a regular file`);
    requirePrivate(path, facts, "chmod 600");
  } finally {
    closeSync(file);
  }
}

/** Writes the whole file with mode 0600: a temporary file, fsync, rename, fsync of the directory. After a crash the old or the new one is there. */
export function writePrivateFile(path: string, bytes: Uint8Array): void {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  const file = openSync(
    temporary,
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    0o600,
  );
  try {
    try {
      for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
      fchmodSync(file, 0o600);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (thrown) {
    if (existsSync(temporary)) unlinkSync(temporary);
    throw thrown;
  }
  syncDirectory(dirname(path));
}

/** Removes a private file; a file that is already gone is no failure. */
export function removePrivateFile(path: string): void {
  if (existsSync(path)) unlinkSync(path);
  syncDirectory(dirname(path));
}

export function privateFileExists(directory: string, name: string): boolean {
  return existsSync(join(directory, name));
}

function openNoFollow(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === "ENOENT") throw new RiprapError("state_missing", `Cannot use ${path}: it does not exist`, { cause });
    if (code === "ELOOP")
      throw new RiprapError("state_not_private", `Cannot use ${path}: it is a symbolic link`, { cause });
    throw new RiprapError("state_unusable", `Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

function requirePrivate(path: string, facts: Stats, remedy: string): void {
  const self = process.geteuid?.() ?? 0;
  if (facts.uid !== self && facts.uid !== 0) {
    throw new RiprapError(
      "state_not_private",
      `Cannot use ${path}: it belongs to user ${facts.uid}, and riprap runs as user ${self}`,
    );
  }
  if ((facts.mode & 0o077) !== 0) {
    const mode = (facts.mode & 0o7777).toString(8).padStart(4, "0");
    throw new RiprapError(
      "state_not_private",
      `Cannot use ${path}: its mode is ${mode} and lets other users in; run \`${remedy} ${path}\``,
    );
  }
}

function syncDirectory(path: string): void {
  const directory = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
