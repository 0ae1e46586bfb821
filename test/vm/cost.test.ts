// What the module costs in instructions, held: the bounds are a little above what was measured (docs/performance.md), so that a change that costs more is seen.
import { beforeAll, expect, test } from "bun:test";
import { type Cost, measureCost } from "../bench/cost.ts";
import { measureHandshakes } from "../bench/handshake.ts";
import { BOOT_TEST_MS, describeDebianVm } from "./tier.ts";

describeDebianVm("the module's cost in instructions (skipped in a kernel whose checks cost more)", () => {
  let costs: readonly Cost[] = [];

  function cost(metric: Cost["metric"], who: string): number {
    const found = costs.find((one) => one.metric === metric && one.who === who);
    if (found === undefined) throw new Error(`no ${metric} of ${who}`);
    return found.instructions;
  }

  beforeAll(async () => {
    costs = await measureCost([10, 1000]);
  }, BOOT_TEST_MS * 3);

  test("connect() of a process that no rule selects costs at most 1.5 % more when the module is loaded", () => {
    const [without, loaded] = ["unmanaged, no module", "unmanaged, module loaded"].map((who) => cost("connect()", who));
    expect(loaded).toBeLessThanOrEqual((without ?? 0) * 1.015);
  });

  // Elapsed, and so with whatever else ran between: two boots differ by four percent where connect(), counted by thread, does by one.
  test("fork() of a process that no rule selects costs at most 8 % more when the module is loaded", () => {
    const [without, loaded] = ["unmanaged, no module", "unmanaged, module loaded"].map((who) => cost("fork()", who));
    expect(loaded).toBeLessThanOrEqual((without ?? 0) * 1.08);
  });

  test("fork() and exec of a process that no rule selects cost at most 8 % more when the module is loaded", () => {
    const [without, loaded] = ["unmanaged, no module", "unmanaged, module loaded"].map((who) =>
      cost("fork() and exec", who),
    );
    expect(loaded).toBeLessThanOrEqual((without ?? 0) * 1.08);
  });

  // Where the rule lies depends on the table's seed: each slot that another rule has taken before it costs some sixty instructions.
  test("riprap_table_verdict() takes at most 440 instructions where one rule lies before its own, and 1,000 where several do", () => {
    const found = [cost("verdict", "riprap, 10 rules"), cost("verdict", "riprap, 1000 rules")];
    expect(Math.min(...found)).toBeLessThanOrEqual(440);
    expect(Math.max(...found)).toBeLessThanOrEqual(1000);
  });

  test("connect() of a managed process under a plain rule takes at most 10,000 instructions more", () => {
    const extra = cost("connect()", "managed, 10 rules") - cost("connect()", "unmanaged, no module");
    expect(extra).toBeLessThanOrEqual(10_000);
  });

  test(
    "a new connection takes at most 31 million instructions when its handshake is full, and 4.2 million when it is resumed",
    async () => {
      const found = new Map((await measureHandshakes()).map(({ who, instructions }) => [who, instructions]));
      expect(found.get("riprap, full")).toBeLessThanOrEqual(31_000_000);
      expect(found.get("riprap, resumed")).toBeLessThanOrEqual(4_200_000);
      // Half of it would be a bench that measured nothing.
      expect(found.get("riprap, resumed")).toBeGreaterThan(1_800_000);
    },
    BOOT_TEST_MS,
  );
});
