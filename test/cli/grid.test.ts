// Columns of text: within the width, nothing cut, and what is whole stays whole.

import { expect, test } from "bun:test";
import { layOut, WIDTH } from "../../src/cli/grid.ts";

const TIME = "2026-11-22T12:00:00Z";
const LONG = "spiffe://edge.example/a/long/path/of/a/workload";

test("layOut() wraps the widest columns and no column that has to stay whole", () => {
  const columns = [{ title: "NODE" }, { title: "A" }, { title: "LAST SEEN", isWhole: true }, { title: "B" }];
  const lines = layOut([...columns, { title: "C" }], [["gate-1", LONG, TIME, LONG, LONG]]);
  for (const line of lines) expect(line.length).toBeLessThanOrEqual(WIDTH);
  expect(lines.join("\n")).toContain(TIME);
  expect(lines.length).toBeGreaterThan(2);
});

test("layOut() goes past the width when what is whole leaves no room, and ends", () => {
  const whole = Array.from({ length: 6 }, () => ({ title: "T", isWhole: true }));
  const [, line = ""] = layOut(whole, [Array.from({ length: 6 }, () => TIME)]);
  expect(line.split("  ")).toEqual(Array.from({ length: 6 }, () => TIME));
});
