// Port lists: numbers and ranges, joined and sorted.
import { joinPorts, type PortRange } from "../port_range.ts";
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
