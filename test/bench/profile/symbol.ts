// Which function an address belongs to, and what each function took. Pure: from the text of /proc/kallsyms, of nm and of /proc/PID/maps.
import { basename } from "node:path";
import type { BlockCount } from "./counter.ts";

const KERNEL_SPACE = 0xffff_8000_0000_0000n;
/** What lies further behind the last symbol before it is of none: another program, code made at run time. */
const REACH = 1n << 20n;

/** Sorted by address. */
export type Symbols = readonly { readonly address: bigint; readonly name: string }[];

/** Code of a running program. */
export interface Mapping {
  readonly from: bigint;
  readonly to: bigint;
  readonly name: string;
}

/** Instructions by function, the greatest first. */
export type Sums = ReadonlyMap<string, number>;

/** Lines "ADDRESS TYPE NAME [MODULE]": those of code, with the module behind the name. */
export function parseSymbols(text: string): Symbols {
  const found = [...text.matchAll(/^([0-9a-f]+) [tTwW] (\S+)(?:\s+\[(\w+)\])?$/gm)];
  return found
    .map(([, address, name = "", module]) => ({
      address: BigInt(`0x${address}`),
      name: module === undefined ? name : `${name} [${module}]`,
    }))
    .sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
}

/** Lines of /proc/PID/maps: those of code, by the name of the file, or "made at run time". */
export function parseMappings(text: string): Mapping[] {
  const found = text.matchAll(/^([0-9a-f]+)-([0-9a-f]+) ..x. \S+ \S+ \d+ *(.*)$/gm);
  return [...found].map(([, from, to, path = ""]) => ({
    from: BigInt(`0x${from}`),
    to: BigInt(`0x${to}`),
    name: path === "" ? "made at run time" : basename(path),
  }));
}

/** What lies in the reach of no symbol goes by its mapping; what has neither is "kernel, no symbol" or "program, no symbol". */
export function sumByFunction(counts: readonly BlockCount[], symbols: Symbols, mappings: readonly Mapping[]): Sums {
  const sums = new Map<string, number>();
  for (const { address, instructions } of counts) {
    const name = nameBySymbol(address, symbols) ?? nameByMapping(address, mappings);
    sums.set(name, (sums.get(name) ?? 0) + instructions);
  }
  return new Map([...sums].sort((a, b) => b[1] - a[1]));
}

function nameBySymbol(address: bigint, symbols: Symbols): string | undefined {
  let [low, high] = [0, symbols.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((symbols[middle]?.address ?? 0n) <= address) low = middle + 1;
    else high = middle;
  }
  const before = symbols[low - 1];
  const isInReach = before !== undefined && address - before.address < REACH;
  return isInReach && before.address >= KERNEL_SPACE === address >= KERNEL_SPACE ? before.name : undefined;
}

function nameByMapping(address: bigint, mappings: readonly Mapping[]): string {
  if (address >= KERNEL_SPACE) return "kernel, no symbol";
  return mappings.find(({ from, to }) => from <= address && address < to)?.name ?? "program, no symbol";
}
