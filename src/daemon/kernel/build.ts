// Builds the module from the source that riprap carries against a kernel's headers; once per kernel release and source digest.

import { chmodSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { describeError, RiprapError } from "../../error.ts";
import { adviseOnPackages } from "./distribution.ts";
import type { Machine } from "./machine.ts";
import { digestOf } from "./source.ts";

export interface BuiltModule {
  readonly path: string;
  readonly release: string;
  readonly digest: string;
  /** It was there already. */
  readonly cached: boolean;
  readonly log: string;
}

export interface BuildOptions {
  readonly cacheDir: string;
  readonly source: Readonly<Record<string, string>>;
  readonly release: string;
  /** Build even when there is one. */
  readonly force?: boolean;
  /** Told when a build really begins: it takes a minute. */
  readonly onBuild?: () => void;
}

/** A small board builds the module in some minutes. */
const BUILD_MS = 1_200_000;

/** The folder of a release's headers, as distributions lay it out. */
export function headersOf(release: string): string {
  return `/lib/modules/${release}/build`;
}

export function findBuilt(machine: Machine, options: BuildOptions): BuiltModule | undefined {
  const { folder, digest } = placeOf(options);
  const path = join(folder, "riprap.ko");
  if (!machine.exists(path)) return undefined;
  return { path, release: options.release, digest, cached: true, log: join(folder, "build.log") };
}

/**
 * The module for a kernel release. Throws RiprapError `kernel_no_headers`, `kernel_no_make`, `kernel_no_compiler`,
 * `kernel_cache` or `kernel_build_failed`, each with what to do.
 */
export async function buildModule(machine: Machine, options: BuildOptions): Promise<BuiltModule> {
  const found = options.force === true ? undefined : findBuilt(machine, options);
  if (found !== undefined) return found;
  refuseWithoutTools(machine, options.release);
  const { folder, digest } = placeOf(options);
  const workFolder = `${dirname(folder)}/.work-${process.pid}`;
  unpack(options.source, workFolder);
  options.onBuild?.();
  try {
    const result = await machine.run(makeCommand(options.release, workFolder), { timeoutMs: BUILD_MS });
    writeFileSync(join(workFolder, "build.log"), result.output);
    if (result.code !== 0 || !machine.exists(join(workFolder, "riprap.ko")))
      throw keepLog(machine, { options, workFolder, result });
    putInPlace(machine, workFolder, folder);
  } finally {
    rmSync(workFolder, { recursive: true, force: true });
  }
  return {
    path: join(folder, "riprap.ko"),
    release: options.release,
    digest,
    cached: false,
    log: join(folder, "build.log"),
  };
}

function placeOf(options: BuildOptions): { folder: string; digest: string } {
  const digest = digestOf(options.source);
  return { folder: join(options.cacheDir, options.release, digest), digest };
}

function refuseWithoutTools(machine: Machine, release: string): void {
  const advice = adviseOnPackages(machine, release);
  if (!machine.exists(join(headersOf(release), "Makefile"))) {
    throw new RiprapError(
      "kernel_no_headers",
      `Cannot build the module for kernel ${release}: its headers are not in ${headersOf(release)}; ${asAdvice(advice.headers)}`,
    );
  }
  if (machine.which("make") === undefined) {
    throw new RiprapError("kernel_no_make", `Cannot build the module: there is no make; ${asAdvice(advice.tools)}`);
  }
  if (findCompiler(machine) === undefined) {
    throw new RiprapError(
      "kernel_no_compiler",
      `Cannot build the module: there is no C compiler; ${asAdvice(advice.tools)}`,
    );
  }
}

/** Distributions build kernels with a numbered compiler; the headers' Makefile names it, and make's error is caught when it is not there. */
export function findCompiler(machine: Machine): string | undefined {
  const numbered = ["15", "14", "13", "12", "11", "10"].map((version) => `gcc-${version}`);
  return ["gcc", "cc", ...numbered, "clang"].map((name) => machine.which(name)).find((path) => path !== undefined);
}

/** `run "…"` for a command, the words themselves otherwise. */
export function asAdvice(advice: string): string {
  return advice.startsWith("install") ? advice : `run "${advice}"`;
}

function unpack(source: Readonly<Record<string, string>>, folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true });
    for (const [path, text] of Object.entries(source)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true, mode: 0o755 });
      writeFileSync(join(folder, path), text);
    }
  } catch (cause) {
    const fact = `Cannot unpack the module's source into ${dirname(folder)}: ${describeError(cause)}`;
    throw new RiprapError("kernel_cache", `${fact}; run as root, or choose a folder with --cache`, { cause });
  }
}

function makeCommand(release: string, folder: string): string[] {
  return ["make", "-C", headersOf(release), `M=${folder}`, `-j${availableParallelism()}`, "modules"];
}

function keepLog(
  machine: Machine,
  input: { options: BuildOptions; workFolder: string; result: { code: number; output: string } },
): RiprapError {
  const { options, workFolder, result } = input;
  const log = join(options.cacheDir, options.release, "failed.log");
  renameSync(join(workFolder, "build.log"), log);
  const missing = /(?:^|[\s/])((?:[a-z0-9_]+-)*(?:gcc|clang|ld|cc|pahole)(?:-[0-9]+)?): (?:command )?not found/m.exec(
    result.output,
  )?.[1];
  if (missing !== undefined) {
    const advice = `install ${missing.replace(/^[a-z0-9_]+-linux-gnu-/, "")} (${adviseOnPackages(machine, options.release).tools})`;
    return new RiprapError(
      "kernel_no_compiler",
      `Cannot build the module: the headers of ${options.release} ask for ${missing}, which is not there; ${advice}`,
    );
  }
  const line = result.output
    .split("\n")
    .find((text) => /error:|\*\*\*|fatal/i.test(text))
    ?.trim();
  const fact =
    line === undefined ? `make ended with status ${result.code}` : line.replaceAll(`${workFolder}/`, "kernel/");
  return new RiprapError(
    "kernel_build_failed",
    `Cannot build the module for kernel ${options.release}: ${fact}; the whole log is in ${log}`,
  );
}

/** Keeps the module and its log, and drops what was built of other sources for this release or left by a build that was killed. */
function putInPlace(machine: Machine, workFolder: string, folder: string): void {
  const release = dirname(folder);
  for (const name of readdirSync(release)) {
    const pid = /^\.work-([0-9]+)$/.exec(name)?.[1];
    const isLeft = pid === undefined ? /^[0-9a-f]{16}$|^failed\.log$/.test(name) : !machine.exists(`/proc/${pid}`);
    const path = join(release, name);
    if (isLeft && path !== workFolder) rmSync(path, { recursive: true, force: true });
  }
  mkdirSync(folder, { mode: 0o755 });
  for (const name of ["build.log", "riprap.ko"]) renameSync(join(workFolder, name), join(folder, name));
  chmodSync(join(folder, "riprap.ko"), 0o644);
}
