// Lays text out in columns within a width. Wraps what is too long, and never cuts: a shortened identity would mislead.

/** What fits a terminal of ordinary width and a page of a bug report. */
export const WIDTH = 100;
const GAP = 2;
/** A column is never made narrower than this: names of 12 characters stay whole. */
const COLUMN_MIN = 12;

export interface Column {
  readonly title: string;
  readonly align?: "right";
  /** Never wrapped: half a time is none. */
  readonly isWhole?: boolean;
}

/** Lines of at most `width` columns, as far as the narrowest columns allow. */
export function layOut(columns: readonly Column[], rows: readonly (readonly string[])[], width = WIDTH): string[] {
  const titles = columns.map((column) => column.title);
  const natural = columns.map((_, index) => Math.max(...[titles, ...rows].map((row) => (row[index] ?? "").length)));
  const least = columns.map(({ isWhole }, index) => (isWhole === true ? (natural[index] ?? 0) : COLUMN_MIN));
  const widths = shrink(natural, { least, room: width - GAP * (columns.length - 1) });
  return [titles, ...rows].flatMap((row) => layOutRow(row, { columns, widths }));
}

/** Takes from the widest column that can give until the sum fits. */
function shrink(
  natural: readonly number[],
  { least, room }: { readonly least: readonly number[]; readonly room: number },
): number[] {
  const widths = [...natural];
  let excess = widths.reduce((sum, value) => sum + value, 0) - room;
  while (excess > 0) {
    const widest = Math.max(0, ...widths.filter((width, index) => width > (least[index] ?? 0)));
    if (widest === 0) return widths;
    widths[widths.findIndex((width, index) => width === widest && width > (least[index] ?? 0))] = widest - 1;
    excess -= 1;
  }
  return widths;
}

function layOutRow(row: readonly string[], grid: { columns: readonly Column[]; widths: readonly number[] }): string[] {
  const cells = grid.widths.map((width, index) => wrap(row[index] ?? "", width));
  const height = Math.max(1, ...cells.map((lines) => lines.length));
  return Array.from({ length: height }, (_, line) =>
    grid.widths
      .map((width, index) => {
        const text = cells[index]?.[line] ?? "";
        return grid.columns[index]?.align === "right" ? text.padStart(width) : text.padEnd(width);
      })
      .join(" ".repeat(GAP))
      .trimEnd(),
  );
}

/** Lines of at most `width`, broken at a space or after a slash where there is one in the second half. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > width) {
    const head = rest.slice(0, width + 1);
    const space = head.lastIndexOf(" ");
    const slash = rest.slice(0, width).lastIndexOf("/") + 1;
    const at = space > width / 2 ? space : slash > width / 2 ? slash : width;
    lines.push(rest.slice(0, at).trimEnd());
    rest = rest.slice(at).trimStart();
  }
  return rest === "" && lines.length > 0 ? lines : [...lines, rest];
}

/** Paragraph lines with a hanging indent. */
export function indent(text: string, by: number, width = WIDTH): string[] {
  return wrap(text, width - by).map((line) => " ".repeat(by) + line);
}

/** `1.2 GiB`, `0 B`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  const value = bytes / 1024 ** step;
  return `${step === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[step]}`;
}
