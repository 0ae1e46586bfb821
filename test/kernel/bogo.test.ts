// BoringSSL's TLS test suite against the engine (bogo.c is the shim): every result is foreseen in bogo/expected.json, or the test fails.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readExpected } from "./bogo/expected.ts";
import { prepareRunner } from "./bogo/source.ts";
import { buildOverEngine, reasonNotToBuild } from "./build.ts";

interface Results {
  tests: Record<string, { actual: "PASS" | "FAIL" | "SKIP" }>;
}

const RUN_MS = 300_000;

const runner = reasonNotToBuild() ?? prepareRunner();
if (typeof runner === "string") process.stdout.write(`skipped: BoringSSL's test suite: ${runner}\n`);

describe.skipIf(typeof runner === "string")("BoringSSL's test suite", () => {
  const expected = readExpected();
  const folder = mkdtempSync(join(tmpdir(), "riprap-bogo-"));
  let results: Results;
  let gaveUp: Map<string, number>;

  beforeAll(async () => {
    ({ results, gaveUp } = await runSuite(folder, expected.disabled));
  }, RUN_MS);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const named = (actual: "PASS" | "FAIL") =>
    Object.entries(results.tests)
      .filter(([, result]) => result.actual === actual)
      .map(([name]) => name)
      .sort();

  test("tls13_input() fails in the cases that docs/tls13.md explains, and in no others", () => {
    const listed = expected.failures.flatMap(({ tests }) => tests);
    const failed = named("FAIL");
    expect({
      unexpected: failed.filter((name) => !listed.includes(name)),
      mended: listed.filter((name) => !failed.includes(name)),
    }).toEqual({ unexpected: [], mended: [] });
  });

  test("tls13_input() passes as many cases as it did, and gives up only at what it has not", () => {
    expect({ passed: named("PASS").length, unimplemented: Object.fromEntries([...gaveUp].sort()) }).toEqual({
      passed: expected.passed,
      unimplemented: Object.fromEntries(expected.unimplemented.flatMap(({ cases }) => Object.entries(cases)).sort()),
    });
  });
});

async function runSuite(folder: string, disabled: Record<string, string>) {
  if (typeof runner === "string") throw new TypeError("There is no runner");
  const [config, output, reasons] = [join(folder, "config.json"), join(folder, "out.json"), join(folder, "reasons")];
  writeFileSync(config, JSON.stringify({ DisabledTests: disabled }));
  writeFileSync(reasons, "");
  const child = Bun.spawn(
    [
      ...["nice", runner.program, "-test.timeout=5m", "-pipe", "-loose-errors", "-allow-unimplemented"],
      ...["-shim-path", buildOverEngine("bogo", ["bogo.c", "bogo_option.c", "credential.c"])],
      ...["-shim-config", config, "-resource-dir", runner.resources, "-json-output", output],
    ],
    { env: { ...process.env, BOGO_REASONS: reasons }, stdout: Bun.file(join(folder, "log")), stderr: "inherit" },
  );
  await child.exited;
  const log = process.env["RIPRAP_BOGO_LOG"];
  if (log !== undefined) await Bun.write(log, Bun.file(join(folder, "log")));
  const gaveUp = new Map<string, number>();
  for (const reason of readFileSync(reasons, "utf8").split("\n").filter(Boolean))
    gaveUp.set(reason, (gaveUp.get(reason) ?? 0) + 1);
  return { results: JSON.parse(readFileSync(output, "utf8")) as Results, gaveUp };
}
