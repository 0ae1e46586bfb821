// Loads the kernel's own modules that riprap.ko stands on: kTLS, the ciphers, the curves. Loads nothing of ours.

import { RiprapError } from "../../error.ts";
import type { Machine } from "./machine.ts";

/** What the module asks the kernel for by name at run time; the kernel would ask a modprobe that small systems lack. */
const WANTED = [
  "tls",
  "gcm",
  "ctr",
  "ghash_generic",
  "ghash_clmulni_intel",
  "ghash_ce",
  "aesni_intel",
  "aes_ce_blk",
  "aes_generic",
  "chacha20poly1305",
  "chacha_generic",
  "chacha_x86_64",
  "poly1305_generic",
  "libcurve25519",
  "curve25519_x86_64",
  "ecc",
  "sha256_generic",
  "hmac",
];

/** Loads `depends` and what riprap asks for by name, each as far as this kernel has it as a module. */
export async function loadDependencies(
  machine: Machine,
  input: { release: string; depends: readonly string[] },
): Promise<void> {
  const modules = readModulesDep(machine, input.release);
  const needed = [...new Set([...input.depends, ...WANTED])].filter(
    (name) => modules.has(name) && !isLoaded(machine, name),
  );
  if (needed.length === 0) return;
  const modprobe = machine.which("modprobe");
  for (const name of needed) {
    if (modprobe !== undefined) await machine.run([modprobe, "-q", name]);
    else insertInOrder(machine, { name, modules });
  }
}

/** `tls` → the files that must be in place, its dependencies first. */
type ModulesDep = ReadonlyMap<string, { readonly path: string; readonly needs: readonly string[] }>;

/** modules.dep: `kernel/net/tls/tls.ko: kernel/a.ko kernel/b.ko`, the deepest dependency last. */
export function readModulesDep(machine: Machine, release: string): ModulesDep {
  const root = `/lib/modules/${release}`;
  const text = machine.read(`${root}/modules.dep`) ?? "";
  const rows = text.split("\n").flatMap((line) => {
    const [path, rest] = line.split(":");
    if (path === undefined || rest === undefined) return [];
    const needs = rest
      .split(" ")
      .filter((need) => need !== "")
      .map(nameOf);
    return [[nameOf(path), { path: path.startsWith("/") ? path : `${root}/${path}`, needs }] as const];
  });
  return new Map(rows);
}

export function isLoaded(machine: Machine, name: string): boolean {
  return machine.exists(`/sys/module/${name}`);
}

function insertInOrder(machine: Machine, input: { name: string; modules: ModulesDep }): void {
  const wanted = [...(input.modules.get(input.name)?.needs ?? []).toReversed(), input.name];
  for (const name of wanted) {
    const path = input.modules.get(name)?.path;
    // A compressed module is for modprobe; what is really missing is named by the failure of riprap.ko itself.
    if (path === undefined || !path.endsWith(".ko") || isLoaded(machine, name)) continue;
    try {
      machine.finitModule(path, "");
    } catch (thrown) {
      // Loaded in the meantime, or refused by hardware that lacks it (a driver for an instruction set): not needed then.
      if (!(thrown instanceof RiprapError)) throw thrown;
    }
  }
}

function nameOf(path: string): string {
  const file = path.slice(path.lastIndexOf("/") + 1);
  return file.replace(/\.ko(\.(xz|zst|gz))?$/, "").replaceAll("-", "_");
}
