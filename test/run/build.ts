// Compiles riprap to one binary for each architecture, on the pinned Bun of that architecture.
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { RiprapError } from "../../src/error.ts";

const PROJECT_DIR = resolve(import.meta.dir, "../..");

const TARGETS = {
  "linux-x64": { bunPackage: "bun-linux-x64", target: "bun-linux-x64" },
  // For machines without AVX2, and for the VMs of the laboratory, whose emulated CPU has none.
  "linux-x64-baseline": { bunPackage: "bun-linux-x64-baseline", target: "bun-linux-x64-baseline" },
  "linux-arm64": { bunPackage: "bun-linux-aarch64", target: "bun-linux-arm64" },
} as const;

export type BuildTarget = keyof typeof TARGETS;

export async function buildBinaries(): Promise<void> {
  for (const target of ["linux-x64", "linux-arm64"] as const) {
    const outfile = join(PROJECT_DIR, "dist", `riprap-${target}`);
    await buildBinary(target, outfile);
    process.stdout.write(`${outfile}\n`);
  }
}

/** Writes the binary of src/main.ts to `outfile`. */
export async function buildBinary(target: BuildTarget, outfile: string): Promise<void> {
  const { bunPackage, target: bunTarget } = TARGETS[target];
  await mkdir(resolve(outfile, ".."), { recursive: true });
  const executable = (await runQuietly(["sh", "run", "fetch-bun", bunPackage])).trim();
  await runQuietly([
    process.execPath,
    "build",
    "--compile",
    `--target=${bunTarget}`,
    `--compile-executable-path=${executable}`,
    // Parsed once, here: a command starts in a fifth of the time. The parser's work is checked against the runtime's version.
    "--bytecode",
    "--format=esm",
    "--minify-syntax",
    "--minify-whitespace",
    // A node must not take settings from the directory that its daemon happens to start in.
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
    `--outfile=${outfile}`,
    "src/main.ts",
  ]);
}

async function runQuietly(command: readonly string[]): Promise<string> {
  const child = Bun.spawn([...command], { cwd: PROJECT_DIR, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0)
    throw new RiprapError(
      "build_failed",
      `Cannot build: ${command.slice(0, 3).join(" ")} ended with ${code}\n${stderr}${stdout}`,
    );
  return stdout;
}
