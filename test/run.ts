// The commands of ./run, once Bun and the packages are there: demo, test, debug-kernel, bench, build.
import { describeError } from "../src/error.ts";
import { buildBinaries } from "./run/build.ts";
import { formatSummary, type TierReport } from "./run/report.ts";
import { runDebugTier, runTiers, selectTiers, selectVmTier } from "./run/tier.ts";

const COMMANDS: Readonly<Record<string, (names: readonly string[]) => Promise<number>>> = {
  test,
  build: async () => {
    await buildBinaries();
    return 0;
  },
  "debug-kernel": (names) => runScript("test/vm/lab/debug/main.ts", names),
  demo: () => runScript("test/vm/demo.ts"),
  bench: (names) => runScript("test/bench/main.ts", names),
};

/** The VM tests in a kernel that looks for its own faults: see test/vm/lab/debug_kernel.ts. */
const DEBUG_FLAGS: Readonly<Record<string, string>> = { "--debug-kernel": "debug", "--race-kernel": "race" };

/** Every tier, or the tiers and files named; the summary is the very last line, whatever happened before it. */
async function test(words: readonly string[]): Promise<number> {
  const [flag = "", ...files] = words;
  const kernel = DEBUG_FLAGS[flag];
  const selection = kernel ? await selectVmTier(files) : await selectTiers(words);
  if ("refused" in selection) {
    process.stderr.write(`run: ${selection.refused}\n`);
    return 2;
  }
  if (!kernel) return report(await runTiers(selection.tiers));
  const chosen = selection.tiers.flatMap((tier) => tier.files);
  return report([await runDebugTier(kernel, chosen, `./run test ${flag}`)]);
}

function report(reports: readonly TierReport[]): number {
  process.stdout.write(formatSummary(reports));
  return reports.some((report) => report.failures.length > 0) ? 1 : 0;
}

async function runScript(path: string, names: readonly string[] = []): Promise<number> {
  const child = Bun.spawn([process.execPath, path, ...names], {
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
  });
  const forward = (): void => child.kill("SIGTERM");
  process.on("SIGINT", forward);
  process.on("SIGTERM", forward);
  return child.exited;
}

if (import.meta.main) {
  const [name = "", ...names] = process.argv.slice(2);
  const command = COMMANDS[name];
  if (!command) throw new RangeError(`No command ${name}; ./run help lists them`);
  process.exitCode = await command(names).catch((error: unknown) => {
    process.stderr.write(`run: ${describeError(error)}\n`);
    return 1;
  });
}
