// A machine made of a map of files and scripted answers.

import type { CommandResult, Machine } from "../../../src/daemon/kernel/machine.ts";
import { RiprapError } from "../../../src/error.ts";

export const RELEASE = "6.12.0-1-amd64";

export interface FakeMachine extends Machine {
  readonly files: Map<string, string>;
  /** Every command and module call, in order. */
  readonly calls: string[];
}

export interface FakeMachineOptions {
  /** Added to those of a healthy Debian machine; undefined removes one. */
  readonly files?: Readonly<Record<string, string | undefined>>;
  readonly programs?: readonly string[];
  readonly uid?: number;
  readonly architecture?: string;
  readonly release?: string;
  readonly owners?: Readonly<Record<string, { uid: number; mode: number }>>;
  /** The errno with which finit_module of riprap.ko fails. */
  readonly loadErrno?: string;
  readonly unloadErrno?: string;
  /** What the kernel logs when a module is refused. */
  readonly logged?: string;
  readonly make?: (command: readonly string[]) => CommandResult;
}

const HEALTHY: Readonly<Record<string, string>> = {
  "/proc/modules": "",
  "/proc/self/status": "Name:\tbun\nCapEff:\t000001ffffffffff\n",
  "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
  "/sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
  "/sys/module/module/parameters/sig_enforce": "N\n",
  [`/boot/config-${RELEASE}`]: "CONFIG_TLS=m\nCONFIG_CRYPTO_ECC=m\nCONFIG_CRYPTO_GCM=y\n",
  [`/lib/modules/${RELEASE}/build/Makefile`]: "",
  [`/lib/modules/${RELEASE}/modules.builtin`]: "kernel/crypto/gcm.ko\n",
  [`/lib/modules/${RELEASE}/modules.dep`]: [
    "kernel/net/tls/tls.ko:",
    "kernel/crypto/ecc.ko:",
    "kernel/lib/crypto/libcurve25519-generic.ko:",
    "kernel/lib/crypto/libcurve25519.ko: kernel/lib/crypto/libcurve25519-generic.ko",
    "kernel/crypto/chacha20poly1305.ko:",
  ].join("\n"),
};

export function fakeMachine(options: FakeMachineOptions = {}): FakeMachine {
  const files = new Map(Object.entries(HEALTHY));
  for (const [path, text] of Object.entries(options.files ?? {})) {
    if (text === undefined) files.delete(path);
    else files.set(path, text);
  }
  const calls: string[] = [];
  const programs = options.programs ?? ["make", "gcc", "modprobe"];
  let log = "";
  return {
    files,
    calls,
    release: options.release ?? RELEASE,
    architecture: options.architecture ?? "x64",
    uid: options.uid ?? 0,
    read: (path) => files.get(path),
    exists: (path) => files.has(path) || [...files.keys()].some((file) => file.startsWith(`${path}/`)),
    owner: (path) => options.owners?.[path],
    which: (program) => (programs.includes(program) ? `/usr/bin/${program}` : undefined),
    async run(command) {
      calls.push(command.join(" "));
      return command[0] === "make" && options.make !== undefined ? options.make(command) : { code: 0, output: "" };
    },
    finitModule(path) {
      calls.push(`finit_module ${path}`);
      if (options.loadErrno === undefined || !path.endsWith("riprap.ko")) return;
      log += options.logged ?? "";
      throw new RiprapError(options.loadErrno, `Cannot load the module ${path}: ${options.loadErrno}`);
    },
    deleteModule(name) {
      calls.push(`delete_module ${name}`);
      if (options.unloadErrno !== undefined)
        throw new RiprapError(options.unloadErrno, `Cannot unload ${name}: ${options.unloadErrno}`);
    },
    kernelLog: () => log,
  };
}
