// Every fuzz target from its stored corpus for a bounded time: libFuzzer where clang has it, a seeded mutator where not.
// RIPRAP_FUZZ_SECONDS sets how long each target runs.
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BUILD_MS, build, buildOverEngine, skipUnlessBuildable } from "./build.ts";

const SECONDS = Number(process.env["RIPRAP_FUZZ_SECONDS"] ?? 3);
const INPUT_MAX = 8192;
const SEED = 20_180_810;
const CORPUS = join(import.meta.dir, "corpus");
const FUZZ = join(import.meta.dir, "fuzz");
const KERNEL = join(import.meta.dir, "../../kernel");

/** Targets over other files than the engine's. */
const OTHER_SOURCES: Readonly<Record<string, readonly string[]>> = {
  frame: ["frame.c", "table_check.c"],
};

const targets = readdirSync(FUZZ)
  .map((file) => /^fuzz_(?!main)(\w+)\.c$/.exec(file)?.[1])
  .filter((name) => name !== undefined);
const skipped = skipUnlessBuildable("the fuzz targets");
const found = mkdtempSync(join(tmpdir(), "riprap-fuzz-"));
let coverage: boolean | undefined;

describe.skipIf(skipped)("fuzz", () => {
  afterAll(() => rmSync(found, { recursive: true, force: true }));

  test("every corpus has a target and every target a corpus when the folders are listed", () => {
    expect(readdirSync(CORPUS).sort()).toEqual([...targets].sort());
  });

  for (const target of targets) {
    test(
      `fuzz_${target} finds nothing when it runs for ${SECONDS} s`,
      () => {
        const program = compile(target);
        const corpus = join(CORPUS, target);
        const { exitCode, stderr } = Bun.spawnSync({
          cmd: hasLibFuzzer()
            ? [
                program,
                `-max_total_time=${SECONDS}`,
                `-seed=${SEED}`,
                `-max_len=${INPUT_MAX}`,
                "-timeout=20",
                found,
                corpus,
              ]
            : [program, String(SECONDS), String(SEED), corpus],
          cwd: found,
        });
        expect({ exitCode, said: exitCode === 0 ? "" : stderr.toString().slice(-4000) }).toEqual({
          exitCode: 0,
          said: "",
        });
      },
      BUILD_MS + SECONDS * 2000,
    );
  }
});

/** libFuzzer's runtime is a package of its own (libclang-rt-14-dev). */
function hasLibFuzzer(): boolean {
  if (coverage !== undefined) return coverage;
  const probe =
    "#include <stddef.h>\nint LLVMFuzzerTestOneInput(const unsigned char *d, size_t n) { return d && n ? 0 : 0; }\n";
  coverage =
    Bun.which("clang") !== null &&
    Bun.spawnSync(["clang", "-fsanitize=fuzzer,address", "-x", "c", "-o", join(found, "probe"), "-"], {
      stdin: Buffer.from(probe),
    }).exitCode === 0;
  if (!coverage) process.stdout.write("fuzz: no libFuzzer here, so the seeded mutator stands in for it\n");
  return coverage;
}

function compile(target: string): string {
  const how = hasLibFuzzer() ? { compiler: "clang", flags: ["-fsanitize=fuzzer"] } : {};
  const entry = hasLibFuzzer() ? [`fuzz/fuzz_${target}.c`] : [`fuzz/fuzz_${target}.c`, "fuzz/fuzz_main.c"];
  const others = OTHER_SOURCES[target];
  if (others === undefined) return buildOverEngine(`fuzz_${target}`, entry, how);
  const sources = [...entry.map((file) => join(import.meta.dir, file)), ...others.map((file) => join(KERNEL, file))];
  return build({ name: `fuzz_${target}`, sources, ...how });
}
