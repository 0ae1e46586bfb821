// Compiles the one binary, for x64 and arm64, into dist/. `bun run build [x64|arm64]…`; needs no network but the npm registry.

import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";

export type Architecture = "x64" | "arm64";
const ROOT = dirname(import.meta.dir);

export interface BuildRiprapOptions {
  readonly architecture: Architecture;
  readonly outfile?: string;
}

/** The binary's path. Bun fetches its own runtime of another architecture from the npm registry, once. */
export async function buildRiprap({ architecture, outfile }: BuildRiprapOptions): Promise<string> {
  const path = outfile ?? join(ROOT, "dist", `riprap-linux-${architecture}`);
  await mkdir(dirname(path), { recursive: true });
  const result = await Bun.build({
    entrypoints: [join(ROOT, "src/main.ts")],
    compile: { target: `bun-linux-${architecture}`, outfile: path },
    // Names of classes and functions stay: a stack in the log must be readable.
    minify: { whitespace: true, syntax: true, identifiers: false },
    sourcemap: "none",
  });
  if (!result.success) throw new AggregateError(result.logs, `Cannot compile riprap for ${architecture}`);
  return path;
}

if (import.meta.main) {
  const asked = process.argv.slice(2).filter((word): word is Architecture => word === "x64" || word === "arm64");
  const architectures: readonly Architecture[] = asked.length === 0 ? ["x64", "arm64"] : asked;
  for (const architecture of architectures) process.stdout.write(`${await buildRiprap({ architecture })}\n`);
}
