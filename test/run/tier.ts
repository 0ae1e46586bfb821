// The tiers of ./run test, cheapest first: what each runs, when it cannot run here, and how long it may take.

import { countLanes, orderFiles } from "./lane.ts";
import { runProgram } from "./program.ts";
import { failedFiles, type JunitCounts, type TierReport } from "./report.ts";
import { type Selection, selectTests, type TierFiles } from "./select.ts";
import { runApart, runTogether } from "./suite.ts";

interface Tier {
  name: string;
  /** Past this it is ended and counts as failed. */
  timeoutMs: number;
  owns(file: string): boolean;
  run(files: readonly string[], signal: AbortSignal): Promise<JunitCounts>;
}

const MINUTE_MS = 60_000;
// For a test that names no time of its own: bunfig.toml cannot say it, and Bun's 5 s fail on a machine that is busy.
const TEST_TIMEOUT_MS = 30_000;
const DEBUG_TEST_TIMEOUT_MS = 300_000;
/** In a kernel that looks for its own faults everything takes its time: see SLOWDOWN of test/vm/lab/kernel.ts. */
const DEBUG_TIMEOUT_MS = 300 * MINUTE_MS;

/** Those that take more than a minute, the longest first; `shortage` is one of them in the debug kernel alone. */
export const LONGEST_VM_FILES: readonly string[] = [
  "shortage",
  "daemon",
  "hostile_peer",
  "load",
  "socket_semantics",
  "fault",
  "hostile_local",
  "fleet",
  "systemd",
  "cost",
  "federation",
  "lab",
  "key_custody",
].map((name) => `test/vm/${name}.test.ts`);

const TIERS: readonly Tier[] = [
  { name: "check", timeoutMs: 5 * MINUTE_MS, owns: () => false, run: check },
  {
    name: "unit",
    timeoutMs: 15 * MINUTE_MS,
    owns: (file) => !isEngine(file) && !isVm(file) && !isGo(file),
    run: runHere,
  },
  { name: "go", timeoutMs: 8 * MINUTE_MS, owns: isGo, run: runHere },
  { name: "engine", timeoutMs: 8 * MINUTE_MS, owns: isEngine, run: runHere },
  { name: "vm", timeoutMs: 55 * MINUTE_MS, owns: isVm, run: vm },
];

/** What `words` mean here: see selectTests(). */
export async function selectTiers(words: readonly string[]): Promise<Selection> {
  return selectTests(words, await listFiles(TIERS));
}

/** The files of the VM tier that `words` mean. */
export async function selectVmTier(words: readonly string[]): Promise<Selection> {
  const files = await listFiles(TIERS.filter(({ name }) => name === "vm"));
  return selectTests(words, files);
}

export async function runTiers(chosen: readonly TierFiles[]): Promise<TierReport[]> {
  const reports: TierReport[] = [];
  for (const { name, files } of chosen) {
    const tier = TIERS.find((each) => each.name === name);
    if (!tier) throw new RangeError(`No tier ${name}`);
    reports.push(await runTier(tier, files, "./run test"));
  }
  return reports;
}

/** The tier of VMs alone, every one of them in this kernel of test/vm/lab/debug_kernel.ts, which `command` asks for. */
export async function runDebugTier(kernel: string, files: readonly string[], command: string): Promise<TierReport> {
  const environment = { RIPRAP_VM: "1", RIPRAP_KERNEL: kernel };
  const tier: Tier = {
    name: `vm in the ${kernel} kernel`,
    timeoutMs: DEBUG_TIMEOUT_MS,
    owns: isVm,
    run: (each, signal) => runInLanes(each, { environment, signal, testMs: DEBUG_TEST_TIMEOUT_MS }),
  };
  return runTier(tier, files, command);
}

async function runTier(tier: Tier, files: readonly string[], command: string): Promise<TierReport> {
  process.stdout.write(`\n--- ${tier.name}\n`);
  const begun = performance.now();
  const limit = new AbortController();
  const timer = setTimeout(() => {
    process.stdout.write(`\nended after ${tier.timeoutMs / MINUTE_MS} minutes\n`);
    limit.abort();
  }, tier.timeoutMs);
  const counts = await tier.run([...files].sort(), limit.signal);
  clearTimeout(timer);
  const failed = failedFiles(counts.failures);
  return {
    name: tier.name,
    seconds: (performance.now() - begun) / 1000,
    ...counts,
    ...(failed.length > 0 && { again: `${command} ${failed.join(" ")}` }),
  };
}

async function listFiles(tiers: readonly Tier[]): Promise<TierFiles[]> {
  const files = await Array.fromAsync(new Bun.Glob("test/**/*.test.ts").scan("."));
  return tiers.map(({ name, owns }) => ({ name, files: files.filter(owns).sort() }));
}

function isVm(file: string): boolean {
  return file.startsWith("test/vm/");
}

/** Programs from outside Debian: to build or fetch them takes a minute or two, once. */
function isGo(file: string): boolean {
  return /\/(go_[a-z]+|envoy)\.test\.ts$/.test(file);
}

/** The TLS engine in user space: its tests compile C, so they come after those that do not. */
function isEngine(file: string): boolean {
  return file.startsWith("test/kernel/") || file.startsWith("test/rfc/");
}

async function check(_files: readonly string[], signal: AbortSignal): Promise<JunitCounts> {
  const failures: string[] = [];
  const commands: readonly (readonly string[])[] = [
    ["tsc", "--noEmit"],
    ["biome", "check", "."],
  ];
  for (const command of commands)
    if ((await runProgram([process.execPath, "x", "--bun", "--no-install", ...command], { signal })) !== 0)
      failures.push(command.join(" "));
  return { passed: commands.length - failures.length, failures, skips: [] };
}

function runHere(files: readonly string[], signal: AbortSignal): Promise<JunitCounts> {
  return runTogether(files, { signal, testMs: TEST_TIMEOUT_MS });
}

async function vm(files: readonly string[], signal: AbortSignal): Promise<JunitCounts> {
  if (process.arch !== "x64") {
    const reason = `all of it: the laboratory boots x86-64 kernels and this machine is ${process.arch}`;
    process.stdout.write(`skipped: ${reason}\n`);
    return { passed: 0, failures: [], skips: [reason] };
  }
  return runInLanes(files, { environment: { RIPRAP_VM: "1" }, signal, testMs: TEST_TIMEOUT_MS });
}

function runInLanes(
  files: readonly string[],
  options: { environment: Readonly<Record<string, string>>; signal: AbortSignal; testMs: number },
): Promise<JunitCounts> {
  const lanes = countLanes();
  // Limits alone grow by it: a VM has a processor to itself, but the machine may have other work.
  const RIPRAP_PATIENCE = process.env["RIPRAP_PATIENCE"] ?? `${lanes}`;
  const environment = { RIPRAP_PATIENCE, ...options.environment };
  return runApart(orderFiles(files, LONGEST_VM_FILES), { ...options, environment, lanes });
}
