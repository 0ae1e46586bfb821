// Reads the facts that a kernel module file states of itself (its .modinfo strings).

import { readFileSync } from "node:fs";

export interface ModuleInfo {
  /** The kernel release that it was built for, the first word of its vermagic. */
  readonly release: string | undefined;
  /** The modules whose symbols it uses. */
  readonly depends: readonly string[];
  readonly version: string | undefined;
  readonly isSigned: boolean;
}

const SIGNATURE_MARK = "~Module signature appended~\n";

/** Only the strings: the file is the kernel's to judge. */
export function readModuleInfo(path: string): ModuleInfo {
  return parseModuleInfo(readFileSync(path));
}

export function parseModuleInfo(bytes: Uint8Array): ModuleInfo {
  // latin1 keeps one character a byte.
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  const value = (key: string) => new RegExp(`\0${key}=([\\x20-\\x7e]*)\0`).exec(text)?.[1];
  const depends = (value("depends") ?? "").split(",").filter((name) => name !== "");
  return {
    release: value("vermagic")?.split(" ")[0],
    depends,
    version: value("version"),
    isSigned: text.endsWith(SIGNATURE_MARK),
  };
}
