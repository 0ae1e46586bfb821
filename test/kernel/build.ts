// Compiles the test programs of the TLS engine under sanitizers and keeps them by the digest of what they are made of.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { basename, dirname, join } from "node:path";

const HERE = import.meta.dir;
const ROOT = join(HERE, "../..");
const CACHE = join(ROOT, ".cache/engine");

/** Compiling under sanitizers takes some seconds a program, more on a loaded machine. */
export const BUILD_MS = 180_000;

const FLAGS = [
  "-g",
  "-O1",
  "-Wall",
  "-Wextra",
  "-Werror",
  "-Wno-deprecated-declarations",
  "-fsanitize=address,undefined",
  "-fno-sanitize-recover=all",
  "-fno-omit-frame-pointer",
];

export const ENGINE_FOLDER = join(ROOT, "kernel/tls13");
export const ENGINE_SOURCES: readonly string[] = readdirSync(ENGINE_FOLDER)
  .filter((name) => name.endsWith(".c"))
  .sort()
  .map((name) => join(ENGINE_FOLDER, name));

const PORT = join(HERE, "port_openssl.c");
const PAIR = join(HERE, "pair.c");

/** Why nothing here can be compiled, or undefined. */
export function reasonNotToBuild(): string | undefined {
  if (!Bun.which("gcc")) return "gcc is not installed";
  if (!existsSync("/usr/include/openssl/evp.h")) return "libcrypto's headers (libssl-dev) are not installed";
  return undefined;
}

/** Prints why a tier is skipped, once for each file that asks. */
export function skipUnlessBuildable(what: string): boolean {
  const reason = reasonNotToBuild();
  if (reason !== undefined) process.stdout.write(`skipped: ${what}: ${reason}\n`);
  return reason !== undefined;
}

interface Program {
  name: string;
  sources: readonly string[];
  compiler?: string;
  flags?: readonly string[];
}

/** The path of the compiled program. Throws with the compiler's words when it does not compile. */
export function build({ name, sources, compiler = "gcc", flags = [] }: Program): string {
  const command = [compiler, ...FLAGS, ...sources, ...flags, "-lcrypto"];
  const out = join(CACHE, `${name}-${digest(command, sources)}`);
  if (existsSync(out)) return out;
  mkdirSync(CACHE, { recursive: true });
  const part = `${out}.${process.pid}`;
  const { exitCode, stderr } = Bun.spawnSync([...command, "-o", part]);
  if (exitCode !== 0) throw new Error(`Cannot compile ${name}: ${stderr}`);
  renameSync(part, out);
  return out;
}

/** A program of test/kernel over the engine and the OpenSSL port. */
export function buildOverEngine(name: string, sources: readonly string[], more: Partial<Program> = {}): string {
  return build({ ...more, name, sources: [...sources.map((source) => join(HERE, source)), ...engineObjects(more)] });
}

/** The engine and the port are compiled once for all programs of one compiler. */
function engineObjects({ compiler = "gcc", flags = [] }: Partial<Program>): readonly string[] {
  const sources = [PORT, PAIR, ...ENGINE_SOURCES];
  const command = [
    compiler,
    ...FLAGS,
    ...flags.map((flag) => flag.replace("=fuzzer", "=fuzzer-no-link")),
    "-c",
    ...sources,
  ];
  const folder = join(CACHE, `objects-${digest(command, sources)}`);
  if (!existsSync(folder)) {
    const part = `${folder}.${process.pid}`;
    mkdirSync(part, { recursive: true });
    const { exitCode, stderr } = Bun.spawnSync(command, { cwd: part });
    if (exitCode !== 0) throw new Error(`Cannot compile the engine: ${stderr}`);
    renameSync(part, folder);
  }
  return sources.map((source) => join(folder, `${basename(source, ".c")}.o`));
}

/** The command, the sources and every header that could be included. */
function digest(command: readonly string[], sources: readonly string[]): string {
  const hash = createHash("sha256").update(command.join("\0"));
  const folders = new Set([...sources.map((source) => dirname(source)), HERE, ENGINE_FOLDER, join(ROOT, "kernel")]);
  const headers = [...folders].flatMap((folder) =>
    readdirSync(folder)
      .filter((file) => file.endsWith(".h"))
      .map((file) => join(folder, file)),
  );
  for (const file of [...sources, ...headers].sort()) hash.update(basename(file)).update(readFileSync(file));
  return hash.digest("hex").slice(0, 16);
}
