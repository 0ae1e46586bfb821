import { describe, expect, test } from "bun:test";
import { selectTests, type TierFiles } from "./select.ts";

const TIERS: readonly TierFiles[] = [
  { name: "check", files: [] },
  { name: "unit", files: ["test/daemon/kernel.test.ts", "test/policy/policy.test.ts", "test/store.test.ts"] },
  { name: "vm", files: ["test/vm/daemon.test.ts", "test/vm/lab/kernel_log.test.ts", "test/vm/policy.test.ts"] },
];

/** Tier to files, or the refusal. */
function select(...words: string[]): Record<string, string[]> | string {
  const selection = selectTests(words, TIERS);
  if ("refused" in selection) return selection.refused;
  return Object.fromEntries(selection.tiers.map(({ name, files }) => [name, files]));
}

describe("selectTests()", () => {
  test("means everything when there is no word, and the whole tier when one is named", () => {
    expect(Object.keys(select())).toEqual(["check", "unit", "vm"]);
    expect(select("vm", "check")).toEqual({ check: [], vm: TIERS[2]?.files ?? [] });
  });

  test("finds a file by its path, the end of it, or that without .test.ts, and its tier with it", () => {
    for (const word of ["test/store.test.ts", "./test/store.test.ts", "store.test.ts", "store"])
      expect(select(word)).toEqual({ unit: ["test/store.test.ts"] });
    expect(select("lab/kernel_log", "store")).toEqual({
      unit: ["test/store.test.ts"],
      vm: ["test/vm/lab/kernel_log.test.ts"],
    });
  });

  test("means the files of a tier alone when it is named with them", () => {
    expect(select("policy")).toEqual({ unit: ["test/policy/policy.test.ts"], vm: ["test/vm/policy.test.ts"] });
    expect(select("vm", "policy")).toEqual({ vm: ["test/vm/policy.test.ts"] });
  });

  test("refuses a word that means nothing, with what is near or what there is", () => {
    expect(select("vm", "kernel")).toBe(
      "no tier and no test file kernel; did you mean test/vm/lab/kernel_log.test.ts?",
    );
    expect(select("vm", "store")).toBe("no tier and no test file store; the tiers are vm, the files those of test/");
    expect(select("--fast")).toContain("no test file --fast; the tiers are check, unit, vm");
    expect(select("tore")).toContain("did you mean test/store.test.ts?");
  });
});
