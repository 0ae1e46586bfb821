// Runs `bun test` over the files of a tier, in one process or in one for each file, and says what they came to.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runLanes } from "./lane.ts";
import { LATE, type ProgramOptions, runProgram } from "./program.ts";
import { addCounts, type JunitCounts, parseJunit } from "./report.ts";

export interface BunTestOptions extends ProgramOptions {
  /** For a test that names no time of its own. */
  testMs: number;
}

/** The counts of all files in one process. */
export async function runTogether(files: readonly string[], options: BunTestOptions): Promise<JunitCounts> {
  const directory = await mkdtemp(join(tmpdir(), "riprap-test-"));
  try {
    const outfile = join(directory, "junit.xml");
    const command = [
      process.execPath,
      "test",
      `--timeout=${options.testMs}`,
      "--reporter=junit",
      `--reporter-outfile=${outfile}`,
    ];
    const code = await runProgram([...command, ...files.map((file) => `./${file}`)], options);
    const counts = parseJunit(await readFile(outfile, "utf8").catch(() => ""));
    const said = describeEnd(code, counts);
    return said === undefined ? counts : addCounts(counts, { passed: 0, failures: [said], skips: [] });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** What the exit status tells and the counts do not: an end before its time, a file that does not load, an error outside of any test. */
function describeEnd(code: number, { passed, failures, skips }: JunitCounts): string | undefined {
  if (code === LATE) return "bun test was ended at the time limit of its tier";
  if (code !== 0 && failures.length === 0) return `bun test ended with ${code}`;
  if (code === 0 && passed + failures.length + skips.length === 0) return "bun test ran nothing";
  return undefined;
}

/** The counts of all files, each in a process of its own, so many at a time, in the order given. */
export async function runApart(
  files: readonly string[],
  options: BunTestOptions & { lanes: number },
): Promise<JunitCounts> {
  const results = await runLanes(files, options, async (file, lane) => {
    const counts = await runTogether([file], options.lanes > 1 ? { ...options, prefix: `${lane}| ` } : options);
    return { ...counts, failures: counts.failures.map((title) => nameFile(file, title)) };
  });
  const lost = { passed: 0, skips: [] };
  return addCounts(
    ...results.map((counts, index) => counts ?? { ...lost, failures: [`${files[index]}: was not begun in time`] }),
  );
}

/** A title of the reporter begins with its file already. */
function nameFile(file: string, title: string): string {
  return title.startsWith(file) ? title : `${file}: ${title}`;
}
