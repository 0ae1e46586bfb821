// Reads the first bundle that a TrustDomain resource gives: inline, or a file of bounded size. Never waits.

import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { describeError, RiprapError } from "../../error.ts";
import type { ForeignTrustDomain } from "../../resource.ts";
import { BUNDLE_BYTES_MAX } from "../../trust_bundle.ts";

/** Undefined: it gives none. RiprapError `bundle_unreadable`. */
export function readFirstBundle({ bundle }: Pick<ForeignTrustDomain, "bundle">): string | undefined {
  return bundle.file === undefined ? bundle.inline : readDocument(bundle.file);
}

function readDocument(path: string): string {
  let descriptor: number | undefined;
  try {
    // O_NONBLOCK: a fifo under this name must not hold up the daemon.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    if (!fstatSync(descriptor).isFile()) throw unreadable(path, "it is not a regular file");
    const buffer = new Uint8Array(Math.min(fstatSync(descriptor).size, BUNDLE_BYTES_MAX) + 1);
    const length = readAll(descriptor, buffer);
    if (length > BUNDLE_BYTES_MAX) throw unreadable(path, `it is larger than ${BUNDLE_BYTES_MAX >> 20} MiB`);
    return new TextDecoder("utf-8", { fatal: true }).decode(buffer.subarray(0, length));
  } catch (thrown) {
    throw thrown instanceof RiprapError ? thrown : unreadable(path, describeError(thrown));
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function readAll(descriptor: number, buffer: Uint8Array): number {
  let length = 0;
  while (length < buffer.length) {
    const got = readSync(descriptor, buffer, length, buffer.length - length, null);
    if (got === 0) break;
    length += got;
  }
  return length;
}

function unreadable(path: string, fact: string): RiprapError {
  return new RiprapError("bundle_unreadable", `Cannot read the first bundle ${path}: ${fact}`);
}
