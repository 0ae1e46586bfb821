// Gets kernels ready to boot and to build against: image, initramfs, a disk of modules, headers. Debian's own, or those of
// debug_kernel.ts where the environment asks for one. Installs nothing.
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { RiprapError } from "../../../src/error.ts";
import { cached, digestOf, PROJECT_DIR, runHost } from "./cache.ts";
import { openPackages } from "./debian.ts";
import { buildDebugKernel, DEBUG_KERNEL_LINES, type DebugKernelLine } from "./debug_kernel.ts";
import { makeDisk } from "./image.ts";
import { makeInitramfs } from "./initramfs.ts";

const DEBIAN_LINES = ["6.1", "6.12"] as const;
export type KernelLine = (typeof DEBIAN_LINES)[number] | DebugKernelLine;

/** Set by `./run test --debug-kernel` and its like: every VM boots this one, whichever its test names. */
export const CHOSEN_KERNEL = DEBUG_KERNEL_LINES.find((line) => line === process.env["RIPRAP_KERNEL"]);

/** How much longer everything may take: KASAN and lockdep under emulation, or a machine that does much else. */
export const SLOWDOWN = CHOSEN_KERNEL ? 8 : Number(process.env["RIPRAP_SLOWDOWN"] ?? 1);

/** By how much what waits for a VM may wait longer: also where another one takes the second processor (test/run/tier.ts). What is tested does not change by it. */
export const PATIENCE = SLOWDOWN * Number(process.env["RIPRAP_PATIENCE"] ?? 1);

/** What a test that is about kernels goes through. */
export const KERNEL_LINES: readonly KernelLine[] = CHOSEN_KERNEL ? [CHOSEN_KERNEL] : DEBIAN_LINES;

const METAPACKAGE: Record<(typeof DEBIAN_LINES)[number], string> = {
  "6.1": "linux-image-cloud-amd64",
  "6.12": "linux-image-6.12-cloud-amd64",
};

// What process 1 needs before the disk of modules is mounted; kmod loads the rest from there.
const BOOT_MODULES = ["virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "virtio_rng", "overlay"];

const AGENT_SOURCE = join(PROJECT_DIR, "test/vm/agent.c");

export interface Kernel {
  line: KernelLine;
  /** `uname -r` of it. */
  release: string;
  vmlinuz: string;
  initramfs: string;
  modulesDisk: string;
  /** What `make -C` takes to build a module for it. */
  buildDir: string;
}

export async function prepareKernel(asked: KernelLine): Promise<Kernel> {
  const line = CHOSEN_KERNEL ?? asked;
  const directory =
    line === "debug" || line === "race"
      ? await buildDebugKernel(line, (fresh, release) => makeModulesDisk(join(fresh, "tree"), release, fresh))
      : await unpackKernel(line);
  const release = (await readFile(join(directory, "release"), "utf8")).trim();
  return {
    line,
    release,
    vmlinuz: join(directory, `tree/boot/vmlinuz-${release}`),
    modulesDisk: join(directory, "modules.ext4"),
    buildDir: join(directory, line === "debug" || line === "race" ? "source" : `tree/usr/src/linux-headers-${release}`),
    initramfs: await buildInitramfs(directory, release),
  };
}

/** Resolved once per cache, so that one checkout tests one kernel until its cache is deleted. */
async function unpackKernel(line: (typeof DEBIAN_LINES)[number]): Promise<string> {
  return cached("kernel", line, async (fresh) => {
    const packages = await openPackages();
    const image = await packages.resolveMetapackage(METAPACKAGE[line], /^linux-image-\d/);
    const release = image.slice("linux-image-".length);
    const headers = `linux-headers-${release}`;
    const names = [
      image,
      headers,
      await packages.resolveMetapackage(headers, /^linux-headers-.*-common$/),
      await packages.resolveMetapackage(headers, /^linux-kbuild-/),
    ];
    const tree = join(fresh, "tree");
    await mkdir(tree);
    for (const file of await packages.download(names, fresh)) {
      await runHost(["dpkg-deb", "-x", file, tree]);
      await rm(file);
    }
    await relocateHeaders(tree, release);
    await runHost(["depmod", "-b", tree, release]);
    await makeModulesDisk(tree, release, fresh);
    await writeFile(join(fresh, "release"), release);
  });
}

/** The headers' Makefile names the common headers by absolute path; make it find its neighbour instead. */
async function relocateHeaders(tree: string, release: string): Promise<void> {
  const makefile = join(tree, `usr/src/linux-headers-${release}/Makefile`);
  const text = await readFile(makefile, "utf8");
  const common = /^include \/usr\/src\/(\S+)\/Makefile$/m.exec(text)?.[1];
  if (!common)
    throw new RiprapError(
      "headers_unknown",
      `Cannot use ${makefile}: it does not include the common headers as Debian's do`,
    );
  await writeFile(makefile, `include $(dir $(lastword $(MAKEFILE_LIST)))../${common}/Makefile\n`);
}

async function makeModulesDisk(tree: string, release: string, fresh: string): Promise<void> {
  const disk = join(fresh, "disk");
  // Under usr/, because /lib is a link in the root file system and an overlay would hide it with a directory.
  await mkdir(join(disk, "usr/lib/modules"), { recursive: true });
  await rename(join(tree, "lib/modules", release), join(disk, "usr/lib/modules", release));
  await makeDisk(disk, join(fresh, "modules.ext4"));
  await rename(join(disk, "usr/lib/modules", release), join(tree, "lib/modules", release));
  await rm(disk, { recursive: true });
}

async function buildInitramfs(kernelDir: string, release: string): Promise<string> {
  const source = await readFile(AGENT_SOURCE);
  const directory = await cached("initramfs", digestOf(source, release, BOOT_MODULES.join()), async (fresh) => {
    const agent = join(fresh, "agent");
    await runHost(["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o", agent, AGENT_SOURCE]);
    const entries = ["dev", "proc", "sys", "root", "modules"].map((path) => ({ path }));
    const archive = makeInitramfs([
      ...entries,
      { path: "init", content: await readFile(agent) },
      ...(await bootModules(join(kernelDir, "tree/lib/modules", release))),
    ]);
    await writeFile(join(fresh, "initramfs.cpio"), archive);
  });
  return join(directory, "initramfs.cpio");
}

async function bootModules(directory: string): Promise<{ path: string; content: Uint8Array }[]> {
  const builtin = await readFile(join(directory, "modules.builtin"), "utf8");
  const order = orderModules(await readFile(join(directory, "modules.dep"), "utf8"), BOOT_MODULES, builtin);
  return Promise.all(
    order.map(async (file, index) => ({
      path: `modules/${String(index).padStart(2, "0")}-${moduleName(file)}.ko`,
      content: await readModule(join(directory, file)),
    })),
  );
}

/** Files of `wanted` and what they depend on, in an order that loads; what is built in is left out. */
export function orderModules(dependencies: string, wanted: readonly string[], builtin: string): string[] {
  const needs = new Map<string, string[]>();
  for (const line of dependencies.split("\n")) {
    const [file, rest] = line.split(":");
    if (file) needs.set(file, rest?.split(" ").filter(Boolean) ?? []);
  }
  const files = new Map([...needs.keys()].map((file) => [moduleName(file), file]));
  const inside = new Set(builtin.split("\n").map(moduleName));
  const ordered = new Set<string>();
  const add = (file: string): void => {
    if (ordered.has(file)) return;
    for (const need of needs.get(file) ?? []) add(need);
    ordered.add(file);
  };
  for (const name of wanted) {
    const file = files.get(name);
    if (file) add(file);
    else if (!inside.has(name))
      throw new RiprapError("module_unknown", `Cannot boot: the kernel has no module ${name}`);
  }
  return [...ordered];
}

function moduleName(file: string): string {
  return basename(file)
    .replace(/\.ko(\.xz|\.zst|\.gz)?$/, "")
    .replaceAll("-", "_");
}

async function readModule(file: string): Promise<Uint8Array> {
  const bytes = await readFile(file);
  if (!file.endsWith(".xz")) return bytes;
  const child = Bun.spawn(["xz", "-dc"], { stdin: bytes, stdout: "pipe" });
  return new Uint8Array(await new Response(child.stdout).arrayBuffer());
}
