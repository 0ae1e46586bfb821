// Boots Debian kernels in QEMU with real programs in them: the door of the laboratory.
//
//   test  --- virtio-serial ---  agent.c (process 1)  --- programs of Debian, riprap
//     |                                |
//   Segment (hub)  --- Ethernet ---  eth0: 10.77.0.N, fd77::N    every frame in a capture file
//
// A VM's disks are read-only and shared; what it writes dies with it. No VM survives the process that booted it.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { RiprapError } from "../../src/error.ts";
import { type Capture, parseCapture } from "./capture.ts";
import { Agent, type RunResult, type VmProcess } from "./lab/agent.ts";
import { CHOSEN_KERNEL, type KernelLine, PATIENCE, prepareKernel } from "./lab/kernel.ts";
import { findKernelFaults } from "./lab/kernel_log.ts";
import { agentSocket, consoleFile, type MachineOptions, startMachine } from "./lab/machine.ts";
import { type Product, prepareProductDisk } from "./lab/product.ts";
import { prepareRootDisk } from "./lab/root.ts";
import type { Segment } from "./lab/segment.ts";
import { prepareSystemdDisk } from "./lab/systemd.ts";

const BOOT_TIMEOUT_MS = 120_000 * PATIENCE; // 4 s alone on two cores; other work may share them
const RUN_TIMEOUT_MS = 60_000;
const POWER_OFF_TIMEOUT_MS = 10_000;

/** The debug kernel keeps a shadow of its memory, and a record of every object. */
const DEBUG_MEMORY_MIB = 768;
const LEAK_SCAN_MS = 120_000;

export interface BootOptions {
  kernel: KernelLine;
  /** Its host name; "vm" if not given. */
  name?: string;
  /** MiB. */
  memory?: number;
  processors?: number;
  segment?: Segment;
  /** Keep every frame of its network card; default: where there is a segment. */
  capture?: boolean;
  /** Path in the VM to content. */
  files?: Readonly<Record<string, Uint8Array | string>>;
  /** What of riprap is in it; nothing if not given. See lab/product.ts for where. */
  product?: Product;
  /** Process 1, beside which the agent runs then; the agent itself if not given. */
  init?: "systemd";
  /** See MachineOptions. */
  tpmSocket?: string;
  /** See MachineOptions; on by default, off for benches. */
  memoryChecks?: boolean;
  /** See MachineOptions; off by default. */
  countInstructions?: boolean;
  /** See MachineOptions. */
  plugin?: string;
}

export interface RunOptions {
  timeout?: number;
  /** User and group; 0 if not given. */
  uid?: number;
  env?: Readonly<Record<string, string>>;
  stdin?: Uint8Array | string;
}

/** A string is a line for the shell; a list is a program and its arguments, with no shell in between. */
export type Command = string | readonly string[];

export interface StopOptions {
  /** Faults in the kernel log that this test provoked on purpose. */
  expected?: readonly RegExp[];
}

const ENVIRONMENT = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LANG: "C.UTF-8",
  HOME: "/root",
};

export async function bootVm(options: BootOptions): Promise<Vm> {
  // Taken first: VMs that boot side by side have the numbers in the order of their calls.
  const number = options.segment?.nextNumber() ?? 0;
  const [kernel, rootDisk] = await Promise.all([prepareKernel(options.kernel), prepareRootDisk()]);
  const productDisk = options.product && (await prepareProductDisk(kernel, options.product));
  // The agent lays them above the others in this order, by these names.
  const layers: [name: string, disk: string][] = [];
  if (productDisk) layers.push(["product", productDisk]);
  if (options.init) layers.push([options.init, await prepareSystemdDisk()]);
  const directory = await mkdtemp(join(tmpdir(), "riprap-vm-"));
  const captureFile = options.segment && options.capture !== false ? join(directory, "capture.pcap") : undefined;
  const machine: MachineOptions = {
    kernel,
    directory,
    memoryMib: (options.memory ?? 768) + (CHOSEN_KERNEL ? DEBUG_MEMORY_MIB : 0),
    processors: options.processors ?? 2,
    memoryChecks: options.memoryChecks ?? true,
    countInstructions: options.countInstructions ?? false,
    ...(options.tpmSocket === undefined ? {} : { tpmSocket: options.tpmSocket }),
    ...(options.plugin === undefined ? {} : { plugin: options.plugin }),
    disks: [rootDisk, kernel.modulesDisk, ...layers.map(([, disk]) => disk)],
    initArguments: layers.map(([name]) => name),
    ...(options.segment && {
      network: { socketPath: options.segment.socketPath, mac: macOf(number), ...(captureFile && { captureFile }) },
    }),
  };
  const vm = await Vm.start(machine, { name: options.name ?? "vm", number, captureFile });
  try {
    await vm.prepare(options.files ?? {});
  } catch (error) {
    await vm.stop().catch(() => {});
    throw error;
  }
  return vm;
}

interface VmFacts {
  name: string;
  number: number;
  captureFile: string | undefined;
}

export class Vm {
  readonly name: string;
  /** On its segment; undefined without one. */
  readonly address: string | undefined;
  readonly address6: string | undefined;
  readonly release: string;
  /** From the start of QEMU to the first program. */
  readonly bootMs: number;
  readonly #machine: MachineOptions;
  readonly #facts: VmFacts;
  readonly #agent: Agent;
  readonly #exited: Promise<number>;
  readonly #kill: () => void;
  #stopped = false;

  private constructor(
    machine: MachineOptions,
    facts: VmFacts,
    live: { agent: Agent; exited: Promise<number>; kill: () => void; bootMs: number },
  ) {
    this.name = facts.name;
    this.address = machine.network && `10.77.0.${facts.number}`;
    this.address6 = machine.network && `fd77::${facts.number.toString(16)}`;
    this.release = machine.kernel.release;
    this.bootMs = live.bootMs;
    this.#machine = machine;
    this.#facts = facts;
    this.#agent = live.agent;
    this.#exited = live.exited;
    this.#kill = live.kill;
  }

  static async start(machine: MachineOptions, facts: VmFacts): Promise<Vm> {
    const begun = performance.now();
    const qemu = startMachine(machine);
    const timer = setTimeout(() => qemu.kill("SIGKILL"), BOOT_TIMEOUT_MS);
    try {
      const agent = await connectAgent(agentSocket(machine), qemu.exited);
      void qemu.exited.then(() => agent.fail(new RiprapError("vm_gone", `The VM ${facts.name} ended`)));
      await agent.ready;
      const live = { agent, exited: qemu.exited, kill: () => qemu.kill("SIGKILL"), bootMs: performance.now() - begun };
      return new Vm(machine, facts, live);
    } catch (cause) {
      qemu.kill("SIGKILL");
      const said = await new Response(qemu.stderr).text();
      const printed = await readFile(consoleFile(machine), "utf8").catch(() => "");
      await rm(machine.directory, { recursive: true, force: true });
      throw new RiprapError("vm_boot_failed", `Cannot boot ${facts.name}: ${said}\n${printed.slice(-6000)}`, { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Name, addresses and files; called once by bootVm. */
  async prepare(files: Readonly<Record<string, Uint8Array | string>>): Promise<void> {
    const lines = [`hostname ${this.name}`, "ip link set lo up"];
    if (this.address)
      lines.push(
        "sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.accept_ra=0",
        `ip addr add ${this.address}/24 dev eth0`,
        `ip addr add ${this.address6}/64 dev eth0 nodad`,
        "ip link set eth0 up",
      );
    await this.check(lines.join(" && "));
    for (const [path, content] of Object.entries(files)) await this.put(path, content);
  }

  /** Runs to its end; a non-zero status is a result. Throws when it does not end in time. */
  async run(command: Command, options: RunOptions = {}): Promise<RunResult> {
    const program = this.spawn(command, options);
    const timeout = options.timeout ?? RUN_TIMEOUT_MS;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      program.kill("KILL", { group: true });
    }, timeout * PATIENCE);
    try {
      if (options.stdin !== undefined) await program.write(options.stdin);
      program.endInput();
      const result = await program.result();
      if (late)
        throw new RiprapError(
          "vm_run_timeout",
          `${this.name}: ${describe(command)} did not end within ${timeout} ms\n${result.stdout.slice(-2000)}\n${result.stderr.slice(-2000)}`,
        );
      return result;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Like run, and a non-zero status throws; its standard output. */
  async check(command: Command, options: RunOptions = {}): Promise<string> {
    const result = await this.run(command, options);
    if (result.code !== 0)
      throw new RiprapError(
        "vm_run_failed",
        `${this.name}: ${describe(command)} ended with ${result.code}\n${result.stdout.slice(-2000)}\n${result.stderr.slice(-4000)}`,
      );
    return result.stdout;
  }

  /** Starts a program and returns at once. Its standard input stays open until `endInput`. */
  spawn(command: Command, options: Omit<RunOptions, "stdin" | "timeout"> = {}): VmProcess {
    const uid = options.uid ?? 0;
    const argv = typeof command === "string" ? ["/bin/sh", "-c", command] : command;
    return this.#agent.start({ argv, environment: { ...ENVIRONMENT, ...options.env }, uid, gid: uid });
  }

  async put(path: string, content: Uint8Array | string, mode = "644"): Promise<void> {
    await this.check(["/bin/sh", "-c", 'mkdir -p "$(dirname "$0")" && cat >"$0" && chmod "$1" "$0"', path, mode], {
      stdin: content,
    });
  }

  async get(path: string): Promise<Uint8Array> {
    const result = await this.run(["cat", path]);
    if (result.code !== 0)
      throw new RiprapError("vm_get_failed", `${this.name}: cannot read ${path}: ${result.stderr}`);
    return result.bytes;
  }

  /** Polls a shell condition until it holds. */
  async waitFor(condition: string, timeoutMs = 30_000): Promise<void> {
    const tries = Math.ceil((timeoutMs * PATIENCE) / 100);
    const script = `i=0; until ${condition}; do i=$((i+1)); [ $i -lt ${tries} ] || exit 1; sleep 0.1; done`;
    const result = await this.run(script, { timeout: timeoutMs + RUN_TIMEOUT_MS });
    if (result.code !== 0)
      throw new RiprapError(
        "vm_wait_failed",
        `${this.name}: never came true: ${condition}\n${result.stderr.slice(-1000)}`,
      );
  }

  async kernelLog(): Promise<string> {
    if (!this.#stopped) {
      const result = await this.run(["dmesg"]).catch(() => undefined);
      if (result?.code === 0) return result.stdout;
    }
    return readFile(consoleFile(this.#machine), "utf8");
  }

  /** What its network card has sent and received so far. */
  async capture(): Promise<Capture> {
    if (!this.#facts.captureFile)
      throw new RiprapError("vm_capture_absent", `${this.name} was booted without a capture`);
    return parseCapture(await readFile(this.#facts.captureFile));
  }

  /** Ends the VM. Throws when its kernel log holds a fault that was not expected. */
  async stop(options: StopOptions = {}): Promise<void> {
    if (this.#stopped) return;
    const leaks = await this.#findLeaks();
    const log = `${await this.kernelLog()}\n${leaks}`;
    this.#stopped = true;
    this.#agent.powerOff();
    const timer = setTimeout(this.#kill, POWER_OFF_TIMEOUT_MS);
    await this.#exited;
    clearTimeout(timer);
    const printed = await readFile(consoleFile(this.#machine), "utf8");
    await rm(this.#machine.directory, { recursive: true, force: true });
    const faults = findKernelFaults(`${log}\n${printed}`).filter(
      (fault) => !options.expected?.some((pattern) => pattern.test(fault.line)),
    );
    if (faults.length === 0) return;
    const context = log.includes(faults[0]?.line ?? "") ? log : printed;
    const at = Math.max(0, context.indexOf(faults[0]?.line ?? ""));
    throw new RiprapError(
      "vm_kernel_fault",
      `The kernel of ${this.name} (${this.release}) reported ${faults.map((fault) => fault.meaning).join(", ")}:\n${context.slice(at, at + 6000)}`,
    );
  }

  /** What no pointer leads to any more, where the kernel can tell; empty of a VM that has died: its log says why. */
  async #findLeaks(): Promise<string> {
    if (this.#machine.kernel.line !== "debug") return "";
    // An object counts when it is five seconds old and two scans have missed it.
    const script = `mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug
      cd /sys/kernel/debug && echo scan >kmemleak && sleep 6 && echo scan >kmemleak && cat kmemleak`;
    const result = await this.run(script, { timeout: LEAK_SCAN_MS }).catch(() => undefined);
    return result && result.code !== 0 ? `riprap: bug: kmemleak cannot scan: ${result.stderr}` : (result?.stdout ?? "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

function describe(command: Command): string {
  const text = typeof command === "string" ? command : command.join(" ");
  return text.length > 200 ? `${basename(text.slice(0, 20))}…${text.slice(-180)}` : text;
}

function macOf(number: number): string {
  return `52:54:00:77:00:${number.toString(16).padStart(2, "0")}`;
}

async function connectAgent(path: string, exited: Promise<number>): Promise<Agent> {
  let ended = false;
  void exited.then(() => {
    ended = true;
  });
  for (;;) {
    const agent = await Agent.connect(path).catch(() => undefined);
    if (agent) return agent;
    if (ended) throw new RiprapError("vm_gone", "QEMU ended before its port was there");
    await Bun.sleep(20);
  }
}
