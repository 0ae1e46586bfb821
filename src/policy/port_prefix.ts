// Port ranges as prefixes of 16 bits, the only form that the kernel's table knows.
import type { PortRange } from "../port_range.ts";

export interface PortPrefix {
  readonly port: number;
  /** 0: any port; 16: one. */
  readonly bits: number;
}

const ANY: readonly PortPrefix[] = [{ port: 0, bits: 0 }];

/** The fewest prefixes that cover the ranges, which neither overlap nor touch; any port when there are none. At most 30 a range. */
export function portPrefixes(ranges: readonly PortRange[]): readonly PortPrefix[] {
  return ranges.length === 0 ? ANY : ranges.flatMap(prefixesOfRange);
}

function prefixesOfRange({ from, to }: PortRange): PortPrefix[] {
  const prefixes: PortPrefix[] = [];
  // No connection has port 0, so 1-1023 may as well begin there: one prefix in place of ten.
  let low = from === 1 && to > 1 ? 0 : from;
  while (low <= to) {
    let free = low === 0 ? 16 : 31 - Math.clz32(low & -low);
    while (low + 2 ** free - 1 > to) free--;
    prefixes.push({ port: low, bits: 16 - free });
    low += 2 ** free;
  }
  return prefixes;
}
