// Builds the load program of the benches for the guest: static, so that it runs wherever it is put.
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";

const SOURCE = join(import.meta.dir, "wire.c");
const CACHE = join(import.meta.dir, "../../.cache/bench");

/** The bytes of the static x86-64 program. Throws with the compiler's words when it cannot be built. */
export async function buildLoad(): Promise<Uint8Array> {
  await mkdir(CACHE, { recursive: true });
  const output = join(CACHE, "wire");
  const command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-o", output, SOURCE];
  const compiler = Bun.spawnSync(command, { stderr: "pipe" });
  if (compiler.exitCode !== 0) throw new Error(`Cannot build ${SOURCE}: ${compiler.stderr.toString()}`);
  return new Uint8Array(await readFile(output));
}
