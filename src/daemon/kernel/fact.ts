// Single facts of a machine's kernel, read from /proc, /sys, /boot and /lib/modules. Judges nothing.

import { isLoaded, readModulesDep } from "./depend.ts";
import type { Machine } from "./machine.ts";

const CAP_SYS_MODULE = 16n;

export function hasModuleSupport(machine: Machine): boolean {
  return machine.exists("/proc/modules");
}

/** sysctl kernel.modules_disabled: one way until the next boot. */
export function isModulesDisabled(machine: Machine): boolean {
  return machine.read("/proc/sys/kernel/modules_disabled")?.trim() === "1";
}

/** `none`, `integrity` or `confidentiality`: the bracketed word of `[none] integrity confidentiality`. */
export function lockdownOf(machine: Machine): string {
  return /\[([a-z]+)\]/.exec(machine.read("/sys/kernel/security/lockdown") ?? "")?.[1] ?? "none";
}

export function isSignatureEnforced(machine: Machine): boolean {
  return machine.read("/sys/module/module/parameters/sig_enforce")?.trim() === "Y";
}

export function isContainer(machine: Machine): boolean {
  return (
    machine.exists("/.dockerenv") ||
    machine.exists("/run/.containerenv") ||
    /(^|\0)container=/.test(machine.read("/proc/1/environ") ?? "")
  );
}

export function hasModuleCapability(machine: Machine): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(machine.read("/proc/self/status") ?? "")?.[1];
  return effective === undefined ? machine.uid === 0 : ((BigInt(`0x${effective}`) >> CAP_SYS_MODULE) & 1n) === 1n;
}

/** Built in, loaded, or to be had as a module. */
export function hasModule(machine: Machine, name: string): boolean {
  if (isLoaded(machine, name) || readModulesDep(machine, machine.release).has(name)) return true;
  const builtIn = machine.read(`/lib/modules/${machine.release}/modules.builtin`) ?? "";
  return builtIn.includes(`/${name}.ko`) || builtIn.includes(`/${name.replaceAll("_", "-")}.ko`);
}

/** Whether the kernel's configuration has the option: `y`, `m`, `n`, or undefined where it cannot be read. */
export function configOf(machine: Machine, option: string): "y" | "m" | "n" | undefined {
  const { release } = machine;
  const places = [
    `/boot/config-${release}`,
    `/lib/modules/${release}/config`,
    "/proc/config.gz",
    `/lib/modules/${release}/build/.config`,
  ];
  for (const place of places) {
    const text = machine.read(place);
    if (text === undefined) continue;
    const value = new RegExp(`^${option}=([ym])$`, "m").exec(text)?.[1];
    return value === "y" || value === "m" ? value : "n";
  }
  return undefined;
}

export function hasKtls(machine: Machine): boolean {
  const configured = configOf(machine, "CONFIG_TLS");
  return hasModule(machine, "tls") || configured === "y";
}

/** `[6, 12]` of `6.12.117+deb12-cloud-amd64`. */
export function versionOf(release: string): readonly [number, number] {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(release) ?? [];
  return [Number(major ?? 0), Number(minor ?? 0)];
}
