// The module's source as this build of riprap carries it, and its digest.

import { createHash } from "node:crypto";
import { readKernelSource } from "./source_macro.ts" with { type: "macro" };

/** Path below kernel/ → text. Put here when the program was bundled: there is no list to forget a file in. */
export const KERNEL_SOURCE: Readonly<Record<string, string>> = readKernelSource();

/** 16 hexadecimal digits that change with any file's path or text. */
export function digestOf(source: Readonly<Record<string, string>>): string {
  const hash = createHash("sha256");
  for (const path of Object.keys(source).sort()) {
    const text = source[path] ?? "";
    hash.update(`${path}\0${Buffer.byteLength(text)}\0${text}`);
  }
  return hash.digest("hex").slice(0, 16);
}
