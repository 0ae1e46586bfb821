// Reads the rule files of a directory, bounded. Follows symbolic links, never a fifo, a device or a subdirectory.
import { closeSync, constants, fstatSync, openSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";
import { describeError } from "../error.ts";
import type { ResourceText } from "../resource.ts";
import type { ProblemList } from "./problem.ts";

/** One file: about 100,000 addresses, which parse in some three seconds. */
export const FILE_BYTES_MAX = 4 << 20;
/** All files of a set. */
export const SET_BYTES_MAX = 32 << 20;
export const FILES_MAX = 4096;

/** The text of every file that could be read; each that could not is a problem. */
export function readSources(from: string | readonly string[], problems: ProblemList): ResourceText[] {
  const files = typeof from === "string" ? listDirectory(from, problems) : from;
  return boundTexts(readEach(files, problems), problems);
}

function* readEach(files: readonly string[], problems: ProblemList): Iterable<ResourceText> {
  for (const file of files) {
    const text = readOne(file, problems);
    if (text !== undefined) yield { file, text };
  }
}

/** The texts up to the bounds of a set; what is past them is a problem, and is not read. */
export function boundTexts(texts: Iterable<ResourceText>, problems: ProblemList): ResourceText[] {
  const kept: ResourceText[] = [];
  let size = 0;
  for (const { file, text } of texts) {
    size += text.length;
    if (text.length > FILE_BYTES_MAX) {
      report(problems, file, `it is larger than ${FILE_BYTES_MAX >> 20} MiB`, "split it");
    } else if (size > SET_BYTES_MAX || kept.length === FILES_MAX) {
      const message = `there are more than ${SET_BYTES_MAX >> 20} MiB or ${FILES_MAX} files`;
      report(problems, file, message, "use prefixes in place of lists, and several documents in a file, apart by ---");
      break;
    } else {
      kept.push({ file, text });
    }
  }
  return kept;
}

function listDirectory(directory: string, problems: ProblemList): string[] {
  try {
    const names = readdirSync(directory).filter((name) => /^[^.].*\.ya?ml$/.test(name));
    return names.sort().map((name) => join(directory, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    report(problems, directory, describeError(error), "make it a directory that root can read");
    return [];
  }
}

function readOne(file: string, problems: ProblemList): string | undefined {
  let descriptor: number;
  try {
    // O_NONBLOCK: a fifo under this name must not hold up the daemon.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    report(problems, file, describeError(error), "make it a file that root can read, or remove it");
    return undefined;
  }
  try {
    if (!fstatSync(descriptor).isFile()) {
      report(problems, file, "it is not a regular file", "remove it, or give it a name that does not end in .yaml");
      return undefined;
    }
    return decode(file, readBounded(descriptor), problems);
  } catch (error) {
    report(problems, file, describeError(error), "make it a file that root can read, or remove it");
    return undefined;
  } finally {
    closeSync(descriptor);
  }
}

/** At most one byte more than allowed, whatever the file grows to meanwhile. */
function readBounded(descriptor: number): Uint8Array {
  const size = Math.min(fstatSync(descriptor).size, FILE_BYTES_MAX) + 1;
  const buffer = new Uint8Array(size);
  let length = 0;
  while (length < size) {
    const got = readSync(descriptor, buffer, length, size - length, null);
    if (got === 0) break;
    length += got;
  }
  return buffer.subarray(0, length);
}

function decode(file: string, bytes: Uint8Array, problems: ProblemList): string | undefined {
  if (bytes.length > FILE_BYTES_MAX) {
    report(problems, file, `it is larger than ${FILE_BYTES_MAX >> 20} MiB`, "split it");
    return undefined;
  }
  if (bytes.length === 0) {
    // What a crash leaves of a file that was being written: to take it for no rules would open what they closed.
    report(problems, file, "it is empty", "write it again, or remove it");
    return undefined;
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    report(problems, file, "it is not UTF-8 text", "save it as UTF-8");
    return undefined;
  }
}

function report(problems: ProblemList, file: string, message: string, remedy: string): void {
  problems.error({ file, line: 1, column: 1, code: "resource_unreadable", field: "", message, remedy });
}
