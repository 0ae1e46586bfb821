// One measure and how Prometheus reads it (text format 0.0.4). Pure.

/** The name without `riprap_`. A value for each reason is a sample for each, told apart by the label `reason`. */
export type Sample = readonly [
  name: string,
  type: "gauge" | "counter",
  help: string,
  value: number | bigint | ReadonlyMap<string, number>,
];

export function formatSample([name, type, help, value]: Sample): string {
  const head = `# HELP riprap_${name} ${help}\n# TYPE riprap_${name} ${type}\n`;
  if (!(value instanceof Map)) return `${head}riprap_${name} ${value}\n`;
  const lines = [...value].map(([reason, each]) => `riprap_${name}{reason="${reason}"} ${each}\n`);
  return `${head}${lines.join("")}`;
}
