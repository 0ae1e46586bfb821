// SHA-256 of files, remembered by what tells one version of a file from the next. Never reads a file on the caller's time.

import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import type { FileStamp } from "./evidence.ts";

const CHUNK_BYTES = 1 << 18; // under a millisecond of hashing between two turns of the loop
const FILE_BYTES_MAX = 1n << 30n; // larger than any program; a larger file has no digest
const ENTRIES_MAX = 4096; // 150 bytes each

export interface DigestCache {
  /**
   * Lower-case hex of the regular file at `path`, or undefined when it cannot be read, changed under the reading, or
   * is not the file of `expected` (size, mtime and ctime: device and inode numbers differ between views of one overlay).
   */
  digest(path: string, expected?: FileStamp): Promise<string | undefined>;
  readonly size: number;
}

export function createDigestCache(): DigestCache {
  const known = new Map<string, Promise<string | undefined>>();
  return {
    get size() {
      return known.size;
    },
    async digest(path, expected) {
      const file = await tryOpen(path);
      if (file === undefined) return undefined;
      try {
        const stamp = await stampOf(file);
        if (stamp === undefined || (expected !== undefined && !isSameVersion(stamp, expected))) return undefined;
        const key = `${stamp.dev} ${stamp.ino} ${stamp.size} ${stamp.mtimeNs} ${stamp.ctimeNs}`;
        const cached = known.get(key);
        if (cached !== undefined) {
          known.delete(key);
          known.set(key, cached); // the one used last goes last
          return await cached;
        }
        const hashing = hash(file, stamp);
        known.set(key, hashing);
        const oldest = known.size > ENTRIES_MAX ? known.keys().next().value : undefined;
        if (oldest !== undefined) known.delete(oldest);
        const digest = await hashing;
        if (digest === undefined) known.delete(key);
        return digest;
      } finally {
        await file.close();
      }
    },
  };
}

async function tryOpen(path: string): Promise<FileHandle | undefined> {
  try {
    // O_NONBLOCK: a fifo under this name must not hold a thread.
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return undefined;
  }
}

async function stampOf(file: FileHandle): Promise<FileStamp | undefined> {
  const stats = await file.stat({ bigint: true });
  if (!stats.isFile() || stats.size > FILE_BYTES_MAX) return undefined;
  return { dev: stats.dev, ino: stats.ino, size: stats.size, mtimeNs: stats.mtimeNs, ctimeNs: stats.ctimeNs };
}

function isSameVersion(a: FileStamp, b: FileStamp): boolean {
  return a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs;
}

async function hash(file: FileHandle, stamp: FileStamp): Promise<string | undefined> {
  const hasher = createHash("sha256");
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  try {
    for (let offset = 0; ; ) {
      const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES, offset);
      if (bytesRead === 0) break;
      hasher.update(buffer.subarray(0, bytesRead));
      offset += bytesRead;
    }
    const after = await stampOf(file);
    return after !== undefined && isSameVersion(after, stamp) ? hasher.digest("hex") : undefined;
  } catch {
    return undefined;
  }
}
