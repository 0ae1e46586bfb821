// Turns raw rows of a bench into medians, ranges and ratios. Never measures anything itself.

export interface Row {
  readonly round: number;
  readonly peer: string;
  readonly metric: string;
  readonly value: number;
}

export interface Summary {
  readonly metric: string;
  readonly peer: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** The middle value; of an even count the mean of the two middle ones. Throws RangeError on an empty list. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError("the median of no values");
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

/** Of each metric and who it is of the cost with the fewest instructions, in order of first appearance. */
export function leastOf<T extends { readonly metric: string; readonly who: string; readonly instructions: number }>(
  costs: readonly T[],
): T[] {
  const groups = Map.groupBy(costs, ({ metric, who }) => `${metric}\n${who}`);
  return [...groups.values()].map((group) => group.reduce((a, b) => (b.instructions < a.instructions ? b : a)));
}

/** One line per metric and peer, in order of first appearance. */
export function summarize(rows: readonly Row[]): Summary[] {
  const groups = Map.groupBy(rows, (row) => `${row.metric}\n${row.peer}`);
  return [...groups.values()].map((group) => {
    const values = group.map((row) => row.value);
    const { metric, peer } = group[0] as Row;
    return { metric, peer, median: median(values), min: Math.min(...values), max: Math.max(...values) };
  });
}

/** A text table of the summaries with the ratio of each peer's median to that of `reference`. */
export function renderTable(summaries: readonly Summary[], reference: string): string {
  const lines = [["metric", "peer", "median", "min", "max", `vs ${reference}`]];
  for (const summary of summaries) {
    const base = summaries.find((other) => other.metric === summary.metric && other.peer === reference);
    const ratio = base === undefined || base.median === 0 ? "-" : `${(summary.median / base.median).toFixed(3)}x`;
    lines.push([summary.metric, summary.peer, ...[summary.median, summary.min, summary.max].map(formatFigure), ratio]);
  }
  const widths = (lines[0] as string[]).map((_, column) =>
    Math.max(...lines.map((line) => (line[column] ?? "").length)),
  );
  return lines
    .map((line) =>
      line
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function formatFigure(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(2);
}
