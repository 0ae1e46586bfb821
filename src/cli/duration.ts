// Reads and writes durations as a person does: `500ms`, `30s`, `5m`, `1h`, `2d`.

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds, or undefined when it is no duration. A bare number is refused: its unit would be a guess. */
export function parseDuration(text: string): number | undefined {
  const [, digits, unit] = /^([0-9]{1,9})(ms|s|m|h|d)$/.exec(text) ?? [];
  const scale = UNIT_MS[unit ?? ""];
  return digits === undefined || scale === undefined ? undefined : Number(digits) * scale;
}

/** The two largest units that matter: `59m 12s`, `3d 4h`, `0s`. */
export function formatDuration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1_000));
  const parts = [
    { value: Math.floor(seconds / 86_400), unit: "d" },
    { value: Math.floor(seconds / 3_600) % 24, unit: "h" },
    { value: Math.floor(seconds / 60) % 60, unit: "m" },
    { value: seconds % 60, unit: "s" },
  ];
  const first = parts.findIndex((part) => part.value > 0);
  if (first === -1) return "0s";
  return parts
    .slice(first, first + 2)
    .filter((part) => part.value > 0)
    .map((part) => `${part.value}${part.unit}`)
    .join(" ");
}
