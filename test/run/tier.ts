// The tiers of ./run test, cheapest first: what each runs, when it cannot run here, and how long it may take.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseJunit, type TierReport } from "./report.ts";

interface Tier {
  name: string;
  /** Past this it is ended and counts as failed. */
  timeoutMs: number;
  run(tier: Tier): Promise<Omit<TierReport, "name" | "seconds">>;
}

const MINUTE_MS = 60_000;
const KILL_AFTER_MS = 10_000;
// For a test that names no time of its own: bunfig.toml cannot say it, and Bun's 5 s fail on a machine that is busy.
const TEST_TIMEOUT_MS = 30_000;
const DEBUG_TEST_TIMEOUT_MS = 300_000;

const TIERS: readonly Tier[] = [
  { name: "check", timeoutMs: 5 * MINUTE_MS, run: check },
  {
    name: "unit",
    timeoutMs: 15 * MINUTE_MS,
    run: (tier) => runBunTest(tier, (file) => !isEngine(file) && !isVm(file) && !isGo(file)),
  },
  { name: "go", timeoutMs: 8 * MINUTE_MS, run: (tier) => runBunTest(tier, isGo) },
  { name: "engine", timeoutMs: 8 * MINUTE_MS, run: (tier) => runBunTest(tier, isEngine) },
  { name: "vm", timeoutMs: 55 * MINUTE_MS, run: vm },
];

export const TIER_NAMES: readonly string[] = TIERS.map((tier) => tier.name);

/** In a kernel that looks for its own faults everything takes its time: see SLOWDOWN of test/vm/lab/kernel.ts. */
const DEBUG_TIMEOUT_MS = 300 * MINUTE_MS;

export async function runTiers(names: readonly string[]): Promise<TierReport[]> {
  return runEach(TIERS.filter(({ name }) => names.includes(name)));
}

/** The tier of VMs alone, every one of them in this kernel of test/vm/lab/debug_kernel.ts. */
export async function runVmTier(kernel: string): Promise<TierReport[]> {
  const environment = { RIPRAP_VM: "1", RIPRAP_KERNEL: kernel };
  const run = (tier: Tier): ReturnType<Tier["run"]> => runBunTest(tier, isVm, environment);
  return runEach([{ name: `vm in the ${kernel} kernel`, timeoutMs: DEBUG_TIMEOUT_MS, run }]);
}

async function runEach(tiers: readonly Tier[]): Promise<TierReport[]> {
  const reports: TierReport[] = [];
  for (const tier of tiers) {
    process.stdout.write(`\n--- ${tier.name}\n`);
    const begun = performance.now();
    const result = await tier.run(tier);
    reports.push({ name: tier.name, seconds: (performance.now() - begun) / 1000, ...result });
  }
  return reports;
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

async function check(tier: Tier): Promise<Omit<TierReport, "name" | "seconds">> {
  const failures: string[] = [];
  const commands: readonly (readonly string[])[] = [
    ["tsc", "--noEmit"],
    ["biome", "check", "."],
  ];
  for (const command of commands)
    if ((await runProgram([process.execPath, "x", "--bun", "--no-install", ...command], tier.timeoutMs, {})) !== 0)
      failures.push(command.join(" "));
  return { passed: commands.length - failures.length, failures, skips: [] };
}

async function vm(tier: Tier): Promise<Omit<TierReport, "name" | "seconds">> {
  if (process.arch !== "x64") {
    const reason = `all of it: the laboratory boots x86-64 kernels and this machine is ${process.arch}`;
    process.stdout.write(`skipped: ${reason}\n`);
    return { passed: 0, failures: [], skips: [reason] };
  }
  return runBunTest(tier, isVm, { RIPRAP_VM: "1" });
}

async function runBunTest(
  tier: Tier,
  wanted: (file: string) => boolean,
  environment: Readonly<Record<string, string>> = {},
): Promise<Omit<TierReport, "name" | "seconds">> {
  const files = (await Array.fromAsync(new Bun.Glob("test/**/*.test.ts").scan("."))).filter(wanted).sort();
  if (files.length === 0) return { passed: 0, failures: [`no test file belongs to the tier ${tier.name}`], skips: [] };
  const directory = await mkdtemp(join(tmpdir(), "riprap-test-"));
  try {
    const outfile = join(directory, "junit.xml");
    const testMs = environment["RIPRAP_KERNEL"] ? DEBUG_TEST_TIMEOUT_MS : TEST_TIMEOUT_MS;
    const command = [
      process.execPath,
      "test",
      `--timeout=${testMs}`,
      "--reporter=junit",
      `--reporter-outfile=${outfile}`,
    ];
    const code = await runProgram([...command, ...files.map((file) => `./${file}`)], tier.timeoutMs, environment);
    const counts = parseJunit(await readFile(outfile, "utf8").catch(() => ""));
    // A file that does not load, or an error outside of any test, is in the exit status alone.
    if (code !== 0 && counts.failures.length === 0) counts.failures.push(`bun test ended with ${code}`);
    return counts;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** The exit status; 124 when it had to be ended. Its output goes where ours goes. */
async function runProgram(
  command: readonly string[],
  timeoutMs: number,
  environment: Readonly<Record<string, string>>,
): Promise<number> {
  const child = Bun.spawn([...command], {
    env: { ...process.env, ...environment },
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    process.stdout.write(`\nended after ${timeoutMs / MINUTE_MS} minutes\n`);
    child.kill("SIGTERM");
    setTimeout(() => child.kill("SIGKILL"), KILL_AFTER_MS).unref();
  }, timeoutMs);
  const code = await child.exited;
  clearTimeout(timer);
  return late ? 124 : code;
}
