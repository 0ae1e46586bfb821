// Real `bun test` processes over small files of every fate.
import { describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { scratchDirectories } from "../scratch.ts";
import { failedFiles } from "./report.ts";
import { runApart, runTogether } from "./suite.ts";
import { LONGEST_VM_FILES } from "./tier.ts";

const scratch = scratchDirectories();
const PROCESS_MS = 60_000;

const FATES = {
  passes: "test('a', () => { console.log('said by a'); }); test.skip('b', () => {});",
  fails: "test('a', () => {}); test('b', () => { throw new Error('no'); });",
  throws: "throw new Error('does not load');",
  dies: "test('a', () => { process.kill(process.pid, 'SIGKILL'); });",
  hangs:
    "test('a', async () => { console.log('hangs'); await new Promise(() => setInterval(() => {}, 1000)); }, 600_000);",
} as const;

function writeFates(...names: (keyof typeof FATES)[]): { cwd: string; files: string[] } {
  const cwd = scratch();
  mkdirSync(join(cwd, "test"));
  const files = names.map((name) => `test/${name}.test.ts`);
  for (const [index, name] of names.entries())
    writeFileSync(join(cwd, files[index] ?? ""), `import { test } from "bun:test";\n${FATES[name]}\n`);
  return { cwd, files };
}

/** A run in two lanes, its counts and its lines. */
async function runFates(names: (keyof typeof FATES)[], stopAt?: string) {
  const { cwd, files } = writeFates(...names);
  const limit = new AbortController();
  const written: string[] = [];
  const write = (text: string): void => {
    written.push(text);
    if (stopAt && text.includes(stopAt)) limit.abort();
  };
  const counts = await runApart(files, { cwd, signal: limit.signal, testMs: PROCESS_MS, lanes: 2, write });
  return { counts, files, lines: written.join("").split("\n") };
}

function titleOf(failure: string): string {
  return failure.split("\n", 1)[0] ?? "";
}

describe("runApart()", () => {
  test(
    "sums what every file came to, and names each that died",
    async () => {
      const { counts, files, lines } = await runFates(["passes", "fails", "throws", "dies"]);
      expect(counts.passed).toBe(2);
      expect(counts.skips).toEqual(["test/passes.test.ts > b"]);
      expect(counts.failures.map(titleOf).toSorted()).toEqual([
        "test/dies.test.ts: bun test ended with 137",
        "test/fails.test.ts > b",
        "test/throws.test.ts: bun test ended with 1",
      ]);
      expect(failedFiles(counts.failures).toSorted()).toEqual(
        files.filter((file) => !file.includes("passes")).toSorted(),
      );
      expect(lines).toContainEqual(expect.stringMatching(/^[12]\| said by a$/));
      expect(lines.filter((line) => line !== "" && !/^[12]\| /.test(line))).toEqual([]);
    },
    PROCESS_MS,
  );

  test(
    "fails what is running and what was not begun when the limit comes",
    async () => {
      const { counts } = await runFates(["hangs", "passes", "fails"], "hangs");
      expect(counts.failures).toContain("test/hangs.test.ts: bun test was ended at the time limit of its tier");
      expect(counts.failures.length + counts.passed).toBeGreaterThanOrEqual(3);
      expect(counts.failures).toContainEqual(expect.stringMatching(/^test\/fails\.test\.ts/));
    },
    PROCESS_MS,
  );
});

describe("runTogether()", () => {
  test(
    "counts the files of one process together",
    async () => {
      const { cwd, files } = writeFates("passes", "fails");
      const signal = new AbortController().signal;
      const counts = await runTogether(files, { cwd, signal, testMs: PROCESS_MS, prefix: "", write: () => {} });
      expect(counts).toEqual({ passed: 2, failures: [expect.any(String)], skips: ["test/passes.test.ts > b"] });
      expect(counts.failures[0]).toMatch(/^test\/fails\.test\.ts > b\n {4}Error: no\n.*fails\.test\.ts:2:/);
    },
    PROCESS_MS,
  );
});

describe("LONGEST_VM_FILES", () => {
  test("names files that there are", async () => {
    for (const file of LONGEST_VM_FILES) expect([file, await Bun.file(file).exists()]).toEqual([file, true]);
  });
});
