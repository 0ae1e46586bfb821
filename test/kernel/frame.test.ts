// Holds the module's readers of frames and tables to their bounds: built for user space with sanitizers and fed seeded mutations.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");
const SOURCES = ["test/kernel/fuzz_frame.c", "kernel/frame.c", "kernel/table_check.c"];
const SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
const FLAGS = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", ...SANITIZERS];
/** Seeds are fixed, so that a failure is the same everywhere. */
const SEEDS = [1, 2, 3];
const ITERATIONS = 40_000;
const BUILD_TIMEOUT_MS = 60_000;
const RUN_TIMEOUT_MS = 60_000;

let directory = "";

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "riprap-frame-"));
  const build = Bun.spawnSync(["gcc", ...FLAGS, "-o", join(directory, "fuzz_frame"), ...SOURCES], { cwd: ROOT });
  expect(build.stderr.toString()).toBe("");
}, BUILD_TIMEOUT_MS);

afterAll(() => rmSync(directory, { recursive: true, force: true }));

for (const seed of SEEDS) {
  test(
    `riprap_frame_read() and riprap_table_check() stay in bounds when inputs are mutated from seed ${seed}`,
    () => {
      const run = Bun.spawnSync([join(directory, "fuzz_frame"), `${seed}`, `${ITERATIONS}`]);
      expect(run.stderr.toString()).toBe("");
      expect(run.stdout.toString()).toMatch(/^frames: \d+ inputs, \d+ taken\ntable: \d+ inputs, \d+ taken\n$/);
      expect(run.exitCode).toBe(0);
    },
    RUN_TIMEOUT_MS,
  );
}
