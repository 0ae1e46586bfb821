// Port lists: numbers and ranges, joined and sorted.
import type { PortRange } from "../resource.ts";
import type { Field } from "./field.ts";
import { quote } from "./field.ts";

const PORTS_MAX = 256;

/** Ranges that neither overlap nor touch, in order; undefined after a problem. Never empty. */
export function checkPorts(field: Field): PortRange[] | undefined {
  const items = field.list();
  if (items === undefined) return undefined;
  if (items.length === 0) {
    const remedy = "add a port, or remove the field for any port";
    return field.error({ code: "ports_empty", message: "the list is empty, so no port can match", remedy });
  }
  if (items.length > PORTS_MAX) {
    return field.error({
      code: "field_invalid",
      message: `more than ${PORTS_MAX} ports`,
      remedy: "use ranges like 8000-8099",
    });
  }
  const ranges = items.map(checkPort);
  const good = ranges.filter((range) => range !== undefined);
  return good.length === ranges.length ? joinPorts(good) : undefined;
}

function checkPort(field: Field): PortRange | undefined {
  const text = field.text();
  if (text === undefined) return undefined;
  const [, from, to] = /^([1-9]\d{0,4})(?:-([1-9]\d{0,4}))?$/.exec(text) ?? [];
  const range = { from: Number(from), to: Number(to ?? from) };
  if (from === undefined || range.from > 65535 || range.to > 65535) {
    const remedy = 'write 443 or "8000-8099", from 1 to 65535';
    return field.error({ code: "field_invalid", message: `${quote(text)} is not a port or a range of ports`, remedy });
  }
  if (range.from <= range.to) return range;
  const message = `the range ${quote(text)} ends before it begins, so no port can match`;
  return field.error({ code: "ports_empty", message, remedy: `write ${range.to}-${range.from}` });
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
