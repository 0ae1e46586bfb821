// One QEMU process: its command line, its start and its end. Knows nothing of what runs inside.
import type { Subprocess } from "bun";
import { CHOSEN_KERNEL, type Kernel } from "./kernel.ts";

export interface MachineOptions {
  kernel: Kernel;
  memoryMib: number;
  processors: number;
  /** A directory of this VM alone: sockets, console, capture. */
  directory: string;
  /** Read-only disks in the order vda, vdb, … */
  disks: readonly string[];
  network?: { socketPath: string; mac: string; captureFile?: string };
  /** Control socket of a swtpm: the VM then has a TPM 2.0. */
  tpmSocket?: string;
  /** Red zones and poison in every slab object: use after free and overruns are said aloud. Costs time. */
  memoryChecks: boolean;
  /** One processor, and a clock that moves by a nanosecond an instruction: figures that two boots agree on. */
  countInstructions: boolean;
  /** What follows `-plugin`: code of ours that QEMU loads, to count what the guest does. */
  plugin?: string;
  /** Handed to process 1. */
  initArguments: readonly string[];
}

// Emulated AVX makes OpenSSL absurdly slow (and would flatter riprap): SSE4.2 and AES-NI are what both sides get.
const EMULATED_CPU = "Westmere,+rdrand,+rdtscp,+pclmulqdq";

// One thread for all of a VM's processors: with one each, QEMU 7.2 now and then runs a breakpoint that the kernel has already
// patched away, and the guest dies of "Oops: int3". Two processors still interleave; a machine with two cores runs two VMs as fast.
const ACCELERATOR = "tcg,thread=single";

// Ends with the test that started it, however that ends.
const DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL"];

export function agentSocket(options: MachineOptions): string {
  return `${options.directory}/agent`;
}

export function consoleFile(options: MachineOptions): string {
  return `${options.directory}/console.log`;
}

export function startMachine(options: MachineOptions): Subprocess<"ignore", "ignore", "pipe"> {
  return Bun.spawn([...DIE_WITH_PARENT, "qemu-system-x86_64", ...machineArguments(options)], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
}

function machineArguments(options: MachineOptions): string[] {
  const accelerated = process.env["RIPRAP_KVM"] === "1";
  return [
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
    "-machine",
    "pc",
    ...(accelerated ? ["-accel", "kvm", "-cpu", "host"] : ["-accel", ACCELERATOR, "-cpu", EMULATED_CPU]),
    ...(options.countInstructions ? ["-icount", "shift=0,sleep=off"] : []),
    ...(options.plugin === undefined ? [] : ["-plugin", options.plugin]),
    "-smp",
    `${options.countInstructions ? 1 : options.processors}`,
    "-m",
    `${options.memoryMib}`,
    "-kernel",
    options.kernel.vmlinuz,
    "-initrd",
    options.kernel.initramfs,
    "-append",
    kernelCommandLine(options),
    "-serial",
    `file:${consoleFile(options)}`,
    "-device",
    "virtio-serial-pci",
    "-chardev",
    `socket,id=agent,path=${agentSocket(options)},server=on,wait=off`,
    "-device",
    "virtserialport,chardev=agent,nr=1",
    "-device",
    "virtio-rng-pci",
    ...options.disks.flatMap((file, index) => [
      "-drive",
      `id=disk${index},file=${file},format=raw,if=none,readonly=on`,
      "-device",
      `virtio-blk-pci,drive=disk${index}`,
    ]),
    ...networkArguments(options),
    ...tpmArguments(options),
  ];
}

function tpmArguments({ tpmSocket }: MachineOptions): string[] {
  if (tpmSocket === undefined) return [];
  return [
    "-chardev",
    `socket,id=tpm,path=${tpmSocket}`,
    "-tpmdev",
    "emulator,id=tpm0,chardev=tpm",
    "-device",
    "tpm-tis,tpmdev=tpm0",
  ];
}

function networkArguments(options: MachineOptions): string[] {
  if (!options.network) return [];
  const { socketPath, mac, captureFile } = options.network;
  return [
    "-netdev",
    `stream,id=segment,server=off,addr.type=unix,addr.path=${socketPath}`,
    "-device",
    `virtio-net-pci,netdev=segment,mac=${mac},romfile=`,
    ...(captureFile ? ["-object", `filter-dump,id=capture,netdev=segment,file=${captureFile}`] : []),
  ];
}

function kernelCommandLine(options: MachineOptions): string {
  const settings = [
    "console=ttyS0",
    "loglevel=5", // warnings reach the console, so that they are known even of a VM that dies
    "log_buf_len=4M",
    "mitigations=off", // emulation has no such leaks, and they cost much there
    "oops=panic",
    "panic=-1", // the first fault ends the VM: what comes after it tells nothing
    "watchdog_thresh=60",
    "rcupdate.rcu_cpu_stall_timeout=300", // see kernel_log.ts
    // Ten ticks must come within a short loop, and the kernel panics without: a machine with other work may not give them in time.
    "no_timer_check",
    "net.ifnames=0",
    "random.trust_cpu=on",
    "kfence.sample_interval=20",
  ];
  // The kernels of debug_kernel.ts have better means.
  if (options.memoryChecks && !CHOSEN_KERNEL) settings.push("slub_debug=FZP");
  // The firmware has set the interrupts up; to ask its tables again takes minutes where every allocation is watched.
  if (CHOSEN_KERNEL) settings.push("acpi=noirq");
  return [...settings, "--", ...options.initArguments].join(" ");
}
