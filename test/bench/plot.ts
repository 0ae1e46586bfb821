// Draws a summary as bars in SVG: one group a metric, one bar a peer, its range as a whisker. Never measures anything itself.
import type { Summary } from "./table.ts";

const WIDTH = 860;
const LABEL_WIDTH = 260;
const BAR = 18;
const GAP = 34;
const MARGIN = 16;
const COLOURS = ["#4c6a92", "#8a9a5b", "#b5651d", "#7d5ba6", "#5f9ea0", "#a0522d"];
const CONTROL = /[<>&"]/g;
const ESCAPED: Readonly<Record<string, string>> = { "<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;" };

/** An SVG document. Each metric has a scale of its own, from zero. */
export function renderPlot(title: string, summaries: readonly Summary[]): string {
  const groups = Map.groupBy(summaries, ({ metric }) => metric);
  const peers = [...new Set(summaries.map(({ peer }) => peer))];
  const parts = [text(MARGIN, MARGIN + 12, title, "bold")];
  let y = MARGIN + 30;
  for (const [metric, group] of groups) {
    parts.push(text(MARGIN, y + 12, metric, "bold"));
    y += 20;
    const top = Math.max(...group.map(({ max }) => max));
    for (const summary of group) {
      parts.push(...bar(y, summary, top, COLOURS[peers.indexOf(summary.peer) % COLOURS.length] ?? ""));
      y += BAR + 4;
    }
    y += GAP - BAR;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + MARGIN}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
${parts.join("\n")}
</svg>
`;
}

function bar(y: number, summary: Summary, top: number, colour: string): string[] {
  const scale = (value: number) => (top === 0 ? 0 : (value / top) * (WIDTH - LABEL_WIDTH - 110));
  const [middle, from, to] = [y + BAR / 2, LABEL_WIDTH + scale(summary.min), LABEL_WIDTH + scale(summary.max)];
  return [
    text(MARGIN, y + 13, summary.peer),
    `<rect x="${LABEL_WIDTH}" y="${y}" width="${scale(summary.median).toFixed(1)}" height="${BAR}" fill="${colour}"/>`,
    `<path d="M${from.toFixed(1)} ${middle}H${to.toFixed(1)}" stroke="black"/>`,
    text(LABEL_WIDTH + scale(summary.max) + 8, y + 13, formatValue(summary.median)),
  ];
}

function text(x: number, y: number, words: string, weight = "normal"): string {
  const safe = words.replace(CONTROL, (character) => ESCAPED[character] ?? "");
  return `<text x="${x.toFixed(1)}" y="${y}" font-weight="${weight}">${safe}</text>`;
}

function formatValue(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
