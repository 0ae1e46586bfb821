// Ports and ranges of ports, joined and compared. Never knows a protocol.

/** Both ends included. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/** Sorts and joins what overlaps or touches. */
export function joinPorts(ranges: readonly PortRange[]): PortRange[] {
  const joined: PortRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.from - b.from)) {
    const last = joined.at(-1);
    if (last !== undefined && range.from <= last.to + 1) {
      joined[joined.length - 1] = { from: last.from, to: Math.max(last.to, range.to) };
    } else {
      joined.push(range);
    }
  }
  return joined;
}

/** Ports in both; an empty list means any port. Undefined: there is none. */
export function intersectPorts(a: readonly PortRange[], b: readonly PortRange[]): readonly PortRange[] | undefined {
  if (a.length === 0) return b;
  if (b.length === 0) return a;
  const both = a.flatMap((x) => b.map((y) => ({ from: Math.max(x.from, y.from), to: Math.min(x.to, y.to) })));
  const real = both.filter((range) => range.from <= range.to);
  return real.length === 0 ? undefined : joinPorts(real);
}
