// The kernel module's life on this machine: built, loaded, looked at, unloaded. Manages no process and no connection.

import { dirname } from "node:path";
import { RiprapError } from "../error.ts";
import { type BuiltModule, buildModule, findBuilt } from "./kernel/build.ts";
import { checkKernel, type Finding } from "./kernel/check.ts";
import { isLoaded, loadDependencies } from "./kernel/depend.ts";
import { hasModuleSupport } from "./kernel/fact.ts";
import { explainLoadFailure, noModules } from "./kernel/failure.ts";
import type { Machine } from "./kernel/machine.ts";
import { readModuleInfo } from "./kernel/module_info.ts";
import { KERNEL_SOURCE } from "./kernel/source.ts";

/** Of root alone, and may be deleted at any time. */
export const MODULE_CACHE = "/var/cache/riprap";
const MODULE = "riprap";

export interface KernelStatus {
  readonly release: string;
  readonly loaded: boolean;
  /** Of the loaded module. */
  readonly version?: string;
  /** What holds the module: each live socket, and the daemon's open device. */
  readonly references?: number;
  /** The built module of this riprap's source for the running kernel. */
  readonly built?: string;
}

export interface KernelModule {
  /** For another kernel than the running one with `release`. */
  build(options?: {
    readonly release?: string;
    readonly force?: boolean;
    readonly onBuild?: () => void;
  }): Promise<BuiltModule>;
  /** Loads `file`, or what was built, building it when needed. Throws RiprapError `kernel_…`. */
  load(options?: { readonly file?: string; readonly onBuild?: () => void }): Promise<{ readonly path: string }>;
  /** Throws RiprapError `kernel_in_use` while anything holds it, `kernel_not_loaded`. */
  unload(): void;
  status(): KernelStatus;
  check(): readonly Finding[];
}

export function openKernelModule(
  machine: Machine,
  options: { cacheDir?: string; source?: Readonly<Record<string, string>> } = {},
): KernelModule {
  const { cacheDir = MODULE_CACHE, source = KERNEL_SOURCE } = options;
  const place = (release = machine.release) => ({ cacheDir, source, release });
  const build: KernelModule["build"] = async ({ release, force = false, onBuild } = {}) => {
    if (force || findBuilt(machine, place(release)) === undefined) refuseForeignCache(machine, cacheDir);
    return buildModule(machine, { ...place(release), force, ...(onBuild === undefined ? {} : { onBuild }) });
  };
  return {
    build,
    async load({ file, onBuild } = {}) {
      if (!hasModuleSupport(machine)) throw refusal("load", noModules());
      if (isLoaded(machine, MODULE)) {
        throw new RiprapError(
          "kernel_loaded",
          'Cannot load the module: it is loaded already; to change it, run "riprap kernel unload" first',
        );
      }
      const path = file ?? (await build(onBuild === undefined ? {} : { onBuild })).path;
      if (file === undefined) refuseForeignCache(machine, cacheDir, path);
      await insert(machine, path);
      return { path };
    },
    unload: () => remove(machine),
    status: () => statusOf(machine, findBuilt(machine, place())?.path),
    check: () => checkKernel(machine, { isBuilt: findBuilt(machine, place()) !== undefined }),
  };
}

async function insert(machine: Machine, path: string): Promise<void> {
  if (!machine.exists(path))
    throw new RiprapError("not_found", `Cannot load the module ${path}: there is no such file`);
  const info = readModuleInfo(path);
  await loadDependencies(machine, { release: machine.release, depends: info.depends });
  const before = machine.kernelLog();
  try {
    machine.finitModule(path, "");
  } catch (thrown) {
    if (!(thrown instanceof RiprapError)) throw thrown;
    const log = machine.kernelLog().slice(before.length);
    throw explainLoadFailure(machine, { errno: thrown.code, path, info, log });
  }
}

function remove(machine: Machine): void {
  if (!isLoaded(machine, MODULE))
    throw new RiprapError("kernel_not_loaded", "Cannot unload the module: it is not loaded");
  try {
    machine.deleteModule(MODULE);
  } catch (thrown) {
    if (!(thrown instanceof RiprapError)) throw thrown;
    if (thrown.code === "EPERM") {
      throw new RiprapError(
        "kernel_forbidden",
        "Cannot unload the module: that takes CAP_SYS_MODULE; run this as root (sudo)",
        { cause: thrown },
      );
    }
    const held = statusOf(machine, undefined).references ?? 0;
    throw new RiprapError(
      "kernel_in_use",
      `Cannot unload the module: ${held} live ${held === 1 ? "socket holds" : "sockets hold"} it (${thrown.code}); end their programs, or try again with a longer --drain-timeout`,
      { cause: thrown },
    );
  }
}

function statusOf(machine: Machine, built: string | undefined): KernelStatus {
  const version = machine.read(`/sys/module/${MODULE}/version`)?.trim();
  const references = machine.read(`/sys/module/${MODULE}/refcnt`)?.trim();
  return {
    release: machine.release,
    loaded: isLoaded(machine, MODULE),
    ...(version === undefined ? {} : { version }),
    ...(references === undefined ? {} : { references: Number(references) }),
    ...(built === undefined ? {} : { built }),
  };
}

/** Root must not load what another user could have put there. */
function refuseForeignCache(machine: Machine, cacheDir: string, path = cacheDir): void {
  for (let at = path; at.length >= cacheDir.length; at = dirname(at)) {
    const owner = machine.owner(at);
    if (owner === undefined) continue;
    const foreign = owner.uid !== 0 && owner.uid !== machine.uid;
    if (!foreign && (owner.mode & 0o022) === 0) continue;
    const fact = foreign ? `${at} belongs to uid ${owner.uid}` : `${at} can be written by others`;
    throw new RiprapError(
      "kernel_cache",
      `Cannot trust the module cache: ${fact}; remove ${cacheDir}, and riprap makes it anew`,
    );
  }
}

function refusal(verb: string, cause: { code: string; fact: string; remedy: string }): RiprapError {
  return new RiprapError(cause.code, `Cannot ${verb} the module: ${cause.fact}; ${cause.remedy}`);
}
