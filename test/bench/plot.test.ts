import { expect, test } from "bun:test";
import { renderPlot } from "./plot.ts";

const SUMMARY = { metric: "a < b", peer: "riprap", median: 2, min: 1, max: 4 };

test("renderPlot() draws one bar a summary, as long as its share of the greatest value of its metric", () => {
  const svg = renderPlot("t", [
    SUMMARY,
    { ...SUMMARY, peer: "other", median: 4 },
    { ...SUMMARY, metric: "c", median: 0, max: 0 },
  ]);
  const widths = [...svg.matchAll(/width="([\d.]+)" height="18"/g)].map(([, width]) => Number(width));
  expect(widths).toHaveLength(3);
  expect(widths[1]).toBeCloseTo(2 * (widths[0] ?? 0), 0);
  expect(widths[2]).toBe(0);
});

test("renderPlot() escapes what XML would read when a name holds it", () => {
  const svg = renderPlot('"&', [SUMMARY]);
  expect(svg).toContain("a &lt; b");
  expect(svg).toContain("&quot;&amp;");
});
