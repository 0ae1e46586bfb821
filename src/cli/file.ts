// Reads the small files that a command is given, and writes those that it makes; each within a bound.

import { readFileSync, statSync, writeFileSync } from "node:fs";
import { describeError, RiprapError } from "../error.ts";
import type { Terminal } from "./terminal.ts";

/** The text of a file, or of standard input for "-". Throws RiprapError `unreadable`, `too_large`, `not_utf8`. */
export async function readText(path: string, options: { terminal: Terminal; bytesMax: number }): Promise<string> {
  const { terminal, bytesMax } = options;
  if (path === "-") return decode(await terminal.readInput(bytesMax), { source: "standard input", bytesMax });
  return readTextFile(path, bytesMax);
}

export function readTextFile(path: string, bytesMax: number): string {
  let bytes: Uint8Array;
  try {
    // Before reading: a device or a huge file must not be taken into memory.
    const { size } = statSync(path);
    if (size > bytesMax) throw tooLarge(path, bytesMax);
    bytes = readFileSync(path);
  } catch (cause) {
    if (cause instanceof RiprapError) throw cause;
    throw new RiprapError("unreadable", `Cannot read ${path}: ${describeCode(cause)}`, { cause });
  }
  return decode(bytes, { source: path, bytesMax });
}

/** To a new file; an existing one is never overwritten. Throws RiprapError `unwritable`. */
export function writeNewFile(path: string, text: string): void {
  try {
    writeFileSync(path, text, { flag: "wx", mode: 0o644 });
  } catch (cause) {
    throw new RiprapError("unwritable", `Cannot write ${path}: ${describeCode(cause)}`, { cause });
  }
}

const SENTENCES: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder",
  EACCES: "this user may not; run as root (sudo), or change the file's permissions",
  EISDIR: "it is a folder",
  EEXIST: "it is there already; remove it or choose another name",
  ENOSPC: "the disk is full",
};

function describeCode(thrown: unknown): string {
  return SENTENCES[(thrown as { code?: string }).code ?? ""] ?? describeError(thrown);
}

function decode(bytes: Uint8Array, input: { source: string; bytesMax: number }): string {
  if (bytes.byteLength > input.bytesMax) throw tooLarge(input.source, input.bytesMax);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new RiprapError("not_utf8", `Cannot read ${input.source}: it is not UTF-8 text`, { cause });
  }
}

function tooLarge(source: string, bytesMax: number): RiprapError {
  return new RiprapError("too_large", `Cannot read ${source}: it is larger than ${bytesMax} bytes`);
}
