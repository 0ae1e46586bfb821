// Builds the kernels that look for their own faults, from the source package of Debian's 6.12. Says what they are, never when they are used.
import { cp, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { RiprapError } from "../../../src/error.ts";
import { cached, digestOf, PROJECT_DIR, runHost } from "./cache.ts";
import { openPackages } from "./debian.ts";

/** `debug`: KASAN, lockdep, kmemleak, failing allocations. `race`: KCSAN, which cannot be in the same kernel. Both: UBSAN, DEBUG_ATOMIC_SLEEP. */
export const DEBUG_KERNEL_LINES = ["debug", "race"] as const;
export type DebugKernelLine = (typeof DEBUG_KERNEL_LINES)[number];

const SOURCE_PACKAGE = "linux-source-6.12";
const CONFIG_DIR = join(PROJECT_DIR, "test/vm/lab/debug");

// What a module is built against; the rest of the source, a gigabyte and a half, goes when the kernel is there.
const KEPT_OF_SOURCE = ["Makefile", ".config", "Module.symvers", "arch/x86", "include", "scripts", "tools/objtool"];

/**
 * A directory with `release`, `tree/boot` and `tree/lib/modules` as an unpacked package would have them, `source` to build modules
 * against, and what `finish` adds. Builds it when this configuration is not in the cache: half an hour of a processor.
 */
export async function buildDebugKernel(
  line: DebugKernelLine,
  finish: (directory: string, release: string) => Promise<void>,
): Promise<string> {
  const packages = await openPackages();
  const config = await readConfig(line);
  const [version = ""] = (await packages.closure([SOURCE_PACKAGE])).filter((name) => name.startsWith(SOURCE_PACKAGE));
  return cached("kernel", `${line}-${digestOf(config, version)}`, async (fresh) => {
    const source = join(fresh, "source");
    for (const file of await packages.download([SOURCE_PACKAGE], fresh)) {
      await runHost(["dpkg-deb", "-x", file, join(fresh, "package")]);
      await rm(file);
    }
    await runHost(["tar", "-xJf", join(fresh, "package/usr/src", `${SOURCE_PACKAGE}.tar.xz`), "-C", fresh]);
    await rename(join(fresh, SOURCE_PACKAGE), source);
    await rm(join(fresh, "package"), { recursive: true });
    await configure(source, config);
    await compile(source);
    const release = (await runHost(["make", "-s", "kernelrelease"], { cwd: source })).trim();
    await installTree(source, join(fresh, "tree"), release);
    await keepWhatModulesNeed(source);
    await finish(fresh, release);
    await writeFile(join(fresh, "release"), release);
  });
}

async function readConfig(line: DebugKernelLine): Promise<string> {
  const parts = ["base.config", `${line}.config`].map((name) => readFile(join(CONFIG_DIR, name), "utf8"));
  return (await Promise.all(parts)).join("");
}

async function configure(source: string, config: string): Promise<void> {
  await writeFile(join(source, ".wanted"), config);
  await runHost(["make", "-s", "ARCH=x86_64", "KCONFIG_ALLCONFIG=.wanted", "allnoconfig"], { cwd: source });
  const lost = findLostOptions(config, await readFile(join(source, ".config"), "utf8"));
  if (lost.length > 0)
    throw new RiprapError("kernel_config", `Cannot configure the kernel: it does not take ${lost.join(", ")}`);
}

/** The lines of `wanted` that a configuration does not have: an option that was renamed, or lacks what it depends on. */
export function findLostOptions(wanted: string, config: string): string[] {
  const have = new Map([...config.matchAll(/^(CONFIG_\w+)=(.*)$/gm)].map(([, name, value]) => [name, value]));
  return [...wanted.matchAll(/^(CONFIG_\w+)=(.*)$/gm)]
    .filter(([, name, value]) => (value === "n" ? have.has(name) : have.get(name) !== value))
    .map(([line]) => line);
}

async function compile(source: string): Promise<void> {
  // Tens of thousands of lines of it are of no interest unless it fails.
  const script = `nice -n 5 make -j${availableParallelism()} ARCH=x86_64 bzImage modules >build.log 2>&1 || { tail -n 40 build.log; exit 1; }`;
  await runHost(["sh", "-c", script], { cwd: source });
}

async function installTree(source: string, tree: string, release: string): Promise<void> {
  await mkdir(join(tree, "boot"), { recursive: true });
  await cp(join(source, "arch/x86/boot/bzImage"), join(tree, `boot/vmlinuz-${release}`));
  await runHost(["make", "-s", "ARCH=x86_64", `INSTALL_MOD_PATH=${tree}`, "modules_install"], { cwd: source });
  for (const link of ["build", "source"]) await rm(join(tree, "lib/modules", release, link), { force: true });
}

async function keepWhatModulesNeed(source: string): Promise<void> {
  const kept = `${source}.kept`;
  for (const path of KEPT_OF_SOURCE) {
    await mkdir(join(kept, path, ".."), { recursive: true });
    await rename(join(source, path), join(kept, path));
  }
  await runHost(["find", join(kept, "arch"), "-name", "*.[oa]", "-delete"]);
  await rm(source, { recursive: true });
  await rename(kept, source);
}
