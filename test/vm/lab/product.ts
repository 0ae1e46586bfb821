// The disk that makes a VM a riprap node: the module built for its kernel, the compiled binary, and the C programs of the tests.
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import { digestOf as digestOfSource } from "../../../src/daemon/kernel/source.ts";
import { readKernelSource } from "../../../src/daemon/kernel/source_macro.ts";
import { RiprapError } from "../../../src/error.ts";
import { type BuildTarget, buildBinary } from "../../run/build.ts";
import { cached, digestOf, PROJECT_DIR, runHost } from "./cache.ts";
import { makeDisk } from "./image.ts";
import type { Kernel } from "./kernel.ts";

/** Where the parts are in a VM. */
export const MODULE_PATH = "/usr/lib/riprap/riprap.ko";
export const PROGRAM_DIR = "/usr/lib/riprap/program";

/** A line for a VM's shell that loads the module after those that it needs, as `riprap kernel load` does. */
export const LOAD_MODULE = `modprobe -a tls $(modinfo -F depends ${MODULE_PATH} | tr , ' ') && insmod ${MODULE_PATH}`;

/** `module`: without the binary, for tests of the kernel part alone. */
export type Product = "module" | "node";

export async function prepareProductDisk(kernel: Kernel, product: Product): Promise<string> {
  const module = await prepareModule(kernel);
  const programs = await preparePrograms();
  const binary = product === "node" ? await prepareBinary() : undefined;
  const key = digestOf(await readFile(import.meta.path), module, programs, binary ?? "");
  const directory = await cached("product", key, async (fresh) => {
    const tree = join(fresh, "tree");
    // `riprap kernel load` looks for what it would have built itself: by kernel release and source digest.
    const built = join(tree, "var/cache/riprap", kernel.release, digestOfSource(readKernelSource()), "riprap.ko");
    const files: [from: string, to: string][] = [
      [module, join(tree, MODULE_PATH)],
      [module, built],
    ];
    if (binary) files.push([binary, join(tree, "usr/local/bin/riprap")]);
    for (const [from, to] of files) {
      await mkdir(dirname(to), { recursive: true });
      await cp(from, to);
    }
    await cp(programs, join(tree, PROGRAM_DIR), { recursive: true });
    await makeDisk(tree, join(fresh, "product.ext4"));
    await rm(tree, { recursive: true });
  });
  return join(directory, "product.ext4");
}

/** Path of riprap.ko for a kernel; a warning of the compiler fails it. */
export async function prepareModule(kernel: Kernel): Promise<string> {
  const source = readKernelSource();
  const directory = await cached("module", digestOf(kernel.release, JSON.stringify(source)), async (fresh) => {
    const work = join(fresh, "work");
    for (const [path, text] of Object.entries(source)) {
      await mkdir(dirname(join(work, path)), { recursive: true });
      await writeFile(join(work, path), text);
    }
    const make = `make -s -C "$0" M="$1" W=1 -j${availableParallelism()} modules 2>&1`;
    const said = await runHost(["sh", "-c", make, kernel.buildDir, work]);
    if (/warning:/.test(said))
      throw new RiprapError("module_warned", `Cannot take the module for ${kernel.release}: its build warns\n${said}`);
    await cp(join(work, "riprap.ko"), join(fresh, "riprap.ko"));
    await rm(work, { recursive: true });
  });
  return join(directory, "riprap.ko");
}

/** Path of the binary; when nothing else is asked for, on the Bun that runs on the VMs' emulated CPU. */
export async function prepareBinary(target: BuildTarget = "linux-x64-baseline"): Promise<string> {
  const parts: string[] = [target, JSON.stringify(readKernelSource())];
  for (const path of [...(await findFiles("src/**/*.ts")), "package.json", "bun.lock"])
    parts.push(path, await readFile(join(PROJECT_DIR, path), "utf8"));
  const directory = await cached("binary", digestOf(...parts), async (fresh) => {
    await buildBinary(target, join(fresh, "riprap"));
  });
  return join(directory, "riprap");
}

/** Sorted, below the project. */
async function findFiles(pattern: string): Promise<string[]> {
  return (await Array.fromAsync(new Bun.Glob(pattern).scan({ cwd: PROJECT_DIR }))).sort();
}

/** A directory with each test/vm/program/*.c, linked statically. */
async function preparePrograms(): Promise<string> {
  const sources = await findFiles("test/vm/program/*.c");
  const parts: string[] = [];
  for (const path of [...sources, ...(await findFiles("test/vm/program/*.h"))])
    parts.push(path, await readFile(join(PROJECT_DIR, path), "utf8"));
  const directory = await cached("program", digestOf(...parts), async (fresh) => {
    await mkdir(join(fresh, "program"));
    for (const path of sources) {
      const out = join(fresh, "program", basename(path, ".c"));
      await runHost(["gcc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-static", "-pthread", "-o", out, path]);
    }
  });
  return join(directory, "program");
}
