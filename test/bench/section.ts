// What every bench does with its rows: raw rows as JSON, medians and ratios as a table, the same as a plot.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { renderPlot } from "./plot.ts";
import { type Row, renderTable, summarize } from "./table.ts";

export interface BenchResult {
  readonly rows: readonly Row[];
  /** The peer that the others are divided by. */
  readonly reference: string;
  /** What was run and how, for whoever reads the raw rows. */
  readonly circumstances: Readonly<Record<string, unknown>>;
}

/** Writes NAME.json, NAME.txt and NAME.svg below `output` and returns the table. */
export async function writeSection(output: string, name: string, result: BenchResult): Promise<string> {
  const summaries = summarize(result.rows);
  const table = renderTable(summaries, result.reference);
  await mkdir(output, { recursive: true });
  await writeFile(join(output, `${name}.json`), `${JSON.stringify(result, null, 1)}\n`);
  await writeFile(join(output, `${name}.txt`), `${table}\n`);
  await writeFile(join(output, `${name}.svg`), renderPlot(name, summaries));
  return table;
}
