// Selector maps: checks that each can match some process at all. Comparing them with a process is the work of src/selector.ts.
import type { LabelEntry, Selector } from "../resource.ts";
import type { Field } from "./field.ts";
import { quote } from "./field.ts";
import { labelRemedy, labelRule } from "./label.ts";

/** OR-ed maps of one identity: a person writes a handful, a generator some dozens. */
const SELECTORS_MAX = 256;
const VALUES_MAX = 1024;

/** The selectors of one identity (a map, or a list of maps); undefined after a problem. */
export function checkSelectors(field: Field): Selector[] | undefined {
  const maps = field.listOrOne();
  if (maps.length === 0)
    return field.error(never("the list is empty, so nothing is ever selected", "add a map of labels"));
  if (maps.length > SELECTORS_MAX) {
    return field.error(
      never(`there are ${maps.length} maps, more than ${SELECTORS_MAX}`, "use lists of values in fewer maps"),
    );
  }
  const selectors = maps.map(checkSelector);
  const good = selectors.filter((selector) => selector !== undefined);
  return good.length === maps.length ? good : undefined;
}

function checkSelector(field: Field): Selector | undefined {
  const map = field.map();
  if (map === undefined) return undefined;
  if (map.entries.length === 0) {
    return field.error(never("the map is empty, and would select every process", "name at least one label"));
  }
  const checked = map.entries.map(({ key, value }) => checkEntry(key, value));
  const entries = checked.filter((entry) => entry !== undefined);
  if (entries.length !== checked.length) return undefined;
  entries.sort((a, b) => (a.label < b.label ? -1 : 1));
  return isContradiction(entries, field) ? undefined : { entries, source: field.source };
}

function checkEntry(label: string, field: Field): LabelEntry | undefined {
  const rule = labelRule(label);
  if (rule === undefined) {
    const message = `no process has a label ${quote(label)}`;
    return field.error({ code: "label_unknown", message, remedy: labelRemedy(label) });
  }
  const items = field.listOrOne();
  if (items.length === 0)
    return field.error(never("the list is empty, so this can never match", "add a value, or remove the label"));
  if (items.length > VALUES_MAX) {
    return field.error(never(`there are ${items.length} values, more than ${VALUES_MAX}`, "select by another label"));
  }
  const values = new Set<string>();
  let isGood = true;
  for (const item of items) {
    const text = item.text();
    const parsed = text === undefined ? undefined : rule.parse(text);
    if (parsed !== undefined && "fault" in parsed) item.error(never(parsed.fault, parsed.remedy));
    if (parsed === undefined || "fault" in parsed) isGood = false;
    else if (values.has(parsed.value)) item.warn(never(`${quote(parsed.value)} is there twice`, "remove one"));
    else values.add(parsed.value);
  }
  if (label === "process:pid") {
    field.warn({
      code: "selector_fragile",
      message: "a PID is soon another process",
      remedy: "select by process:exe and process:uid",
    });
  }
  return isGood ? { label, match: rule.match, values: [...values].sort() } : undefined;
}

/** The command line is the arguments joined by blanks: it begins with the first. */
function isContradiction(entries: readonly LabelEntry[], field: Field): boolean {
  const first = entries.find((entry) => entry.label === "process:arg[0]")?.values;
  const lines = entries.find((entry) => entry.label === "process:cmdline")?.values;
  if (first === undefined || lines === undefined) return false;
  const agree = first.some((word) => lines.some((line) => word.startsWith(stem(line)) || stem(line).startsWith(word)));
  if (agree) return false;
  const remedy = "make process:cmdline begin with process:arg[0], or remove one of them";
  field.error(never("process:cmdline never begins with this process:arg[0], so this can never match", remedy));
  return true;
}

function stem(value: string): string {
  return value.endsWith("*") ? value.slice(0, -1) : value;
}

function never(message: string, remedy: string): { code: string; message: string; remedy: string } {
  return { code: "selector_never_matches", message, remedy };
}
