import { describe, expect, test } from "bun:test";
import { failedFiles, formatSummary, parseJunit } from "./report.ts";

const JUNIT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bun test" tests="4" failures="1" skipped="1">
  <testsuite name="test/a.test.ts" file="test/a.test.ts">
    <testcase name="a() returns &lt;1&gt;" classname="a" time="0.1" file="test/a.test.ts" line="3" assertions="1" />
    <testcase name="b" classname="a" time="0.1" file="test/a.test.ts" line="5" assertions="1">
      <failure type="AssertionError" />
    </testcase>
    <testcase name="c" classname="a &gt; deep" time="0" file="test/a.test.ts">
      <skipped />
    </testcase>
    <testcase name="d" time="0" file="test/a.test.ts" />
  </testsuite>
</testsuites>`;

describe("parseJunit()", () => {
  test("counts every test case once, by what is inside it", () => {
    expect(parseJunit(JUNIT)).toEqual({
      passed: 2,
      failures: ["test/a.test.ts > a > b"],
      skips: ["test/a.test.ts > a > deep > c"],
    });
  });

  test("tells what a failed test said, and where it stops telling when that is long", () => {
    const caseOf = (failure: string) => `<testcase name="b" file="test/a.test.ts">${failure}</testcase>`;
    const failuresOf = (failure: string) => parseJunit(caseOf(failure)).failures;
    expect(failuresOf('<failure type="E" message="no">E: &lt;no&gt;&#10;  at a.test.ts:3&#10;</failure>')).toEqual([
      "test/a.test.ts > b\n    E: <no>\n      at a.test.ts:3",
    ]);
    expect(failuresOf('<failure type="TimeoutError" message="test timed out" />')).toEqual([
      "test/a.test.ts > b\n    test timed out",
    ]);
    const [long = ""] = failuresOf(`<error>${"x&#10;".repeat(41)}</error>`);
    expect(long.split("\n").slice(-2)).toEqual(["    x", "    …"]);
    expect(long.split("\n").length).toBe(42);
  });

  test("counts nothing when the reporter wrote nothing", () => {
    expect(parseJunit("")).toEqual({ passed: 0, failures: [], skips: [] });
  });
});

describe("formatSummary()", () => {
  const unit = { name: "unit", seconds: 3, passed: 5, failures: [], skips: [] };

  test("closes with passed and failed alone when nothing was skipped", () => {
    expect(formatSummary([unit]).split("\n").at(-2)).toBe("5 passed, 0 failed");
  });

  test("closes with the sums, and names each failure and skip, when there are some", () => {
    const vm = { name: "vm", seconds: 9, passed: 1, failures: ["x"], skips: ["y: no QEMU"] };
    const text = formatSummary([unit, vm]);
    expect(text.split("\n").at(-2)).toBe("6 passed, 1 failed, 1 skipped");
    expect(text).toContain("failed in vm: x\n");
    expect(text).toContain("skipped in vm: y: no QEMU\n");
  });

  test("says how to run again what failed", () => {
    const vm = { name: "vm", seconds: 9, passed: 1, failures: ["x"], skips: [], again: "./run test test/vm/x.test.ts" };
    expect(formatSummary([vm])).toContain("to run again what failed in vm: ./run test test/vm/x.test.ts\n");
  });
});

describe("failedFiles()", () => {
  test("gives each file once, and nothing for a failure that is no test's", () => {
    expect(
      failedFiles([
        "test/a.test.ts > a > b",
        "test/a.test.ts > a > c",
        "test/b.test.ts: bun test ended with 1",
        "biome check .",
        "bun test ended with 1",
      ]),
    ).toEqual(["test/a.test.ts", "test/b.test.ts"]);
  });
});
