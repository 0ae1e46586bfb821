// A Go program of the tests: built once from the modules of its go.sum, kept in .cache under a digest of what it was built from.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const CACHE = join(import.meta.dir, "../../.cache");
export const BUILD_MS = 400_000;

export interface GoProgram {
  readonly binary: string;
  /** Why it cannot be had here. */
  readonly skipped: string | undefined;
  /** True once the binary is there. */
  build(): boolean;
}

/** The program of the folder `source`, with its binaries in the folder `name` of the cache. */
export function goProgram(source: string, name: string): GoProgram {
  const env = { ...process.env, GOTOOLCHAIN: "local", GOWORK: "off", GOFLAGS: "-mod=readonly -trimpath" };
  const go = (...words: readonly string[]) =>
    Bun.spawnSync(["nice", "go", ...words], { cwd: source, env, stdout: "inherit", stderr: "inherit" }).exitCode === 0;
  const hash = createHash("sha256");
  for (const file of ["main.go", "go.mod", "go.sum"]) hash.update(readFileSync(join(source, file)));
  mkdirSync(join(CACHE, name), { recursive: true });
  const binary = join(CACHE, name, hash.digest("hex").slice(0, 16));
  const whyNot = () => {
    if (existsSync(binary)) return undefined;
    if (Bun.which("go") === null) return "there is no Go here";
    return go("mod", "download") ? undefined : "Go is too old for the modules of go.mod, or they cannot be had";
  };
  return { binary, skipped: whyNot(), build: () => existsSync(binary) || go("build", "-o", binary, ".") };
}
