import { expect, test } from "bun:test";
import { median, renderTable, summarize } from "./table.ts";

test("median() takes the middle, the mean of two middles, and refuses nothing", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(() => median([])).toThrow(RangeError);
});

test("renderTable() divides each median by that of the reference in the same metric", () => {
  const rows = [
    { round: 1, peer: "plain", metric: "rr/s", value: 100 },
    { round: 2, peer: "plain", metric: "rr/s", value: 300 },
    { round: 1, peer: "riprap", metric: "rr/s", value: 100 },
    { round: 1, peer: "riprap", metric: "alone", value: 1 },
  ];
  const text = renderTable(summarize(rows), "plain");
  expect(text).toContain("0.500x");
  expect(text.split("\n")).toHaveLength(4);
  expect(text.split("\n")[3]).toEndWith("-");
});
