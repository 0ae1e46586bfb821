// Builds the load programs of the benches for the guest: static, so that they run wherever they are put.
import { mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";

const CACHE = join(import.meta.dir, "../../.cache/bench");

/** Where buildLoad() leaves it, with its symbols. */
export function loadPath(name: string): string {
  return join(CACHE, name);
}

/** The bytes of the static x86-64 program that `name`.c makes. Throws with the compiler's words when it cannot be built. */
export async function buildLoad(name: string, libraries: readonly string[] = []): Promise<Uint8Array> {
  const output = loadPath(name);
  await mkdir(dirname(output), { recursive: true });
  const source = join(import.meta.dir, `${name}.c`);
  const flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread"];
  const compiler = Bun.spawnSync(["gcc", ...flags, "-o", output, source, ...libraries], { stderr: "pipe" });
  if (compiler.exitCode !== 0) throw new Error(`Cannot build ${source}: ${compiler.stderr.toString()}`);
  return new Uint8Array(await readFile(output));
}
