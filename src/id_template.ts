// SPIFFE ID paths with `[label]` parts: taken apart, and put together again from what is known of a process.
import { RiprapError } from "./error.ts";
import type { LabelSet } from "./label.ts";

export type TemplatePart = { readonly text: string } | { readonly label: string };

// A label may end in its own brackets: [process:arg[1]].
const PART = /\[((?:[^[\]]|\[\d+\])+)\]|[^[\]]+/y;

/** Throws RiprapError `template_invalid` when a bracket is not closed, not opened or empty. */
export function parseTemplate(template: string): TemplatePart[] {
  const parts: TemplatePart[] = [];
  PART.lastIndex = 0;
  while (PART.lastIndex < template.length) {
    const found = PART.exec(template);
    if (found === null) {
      const shown = JSON.stringify(template.slice(0, 80));
      throw new RiprapError(
        "template_invalid",
        `Cannot parse workloadID ${shown}: its brackets do not pair round a label name`,
      );
    }
    parts.push(found[1] === undefined ? { text: found[0] } : { label: found[1] });
  }
  return parts;
}

/** Of the templates in force, of which there are some: taken apart once. */
const PARSED_MAX = 256;
const parsed = new Map<string, readonly TemplatePart[]>();

function partsOf(template: string): readonly TemplatePart[] {
  const known = parsed.get(template);
  if (known !== undefined) return known;
  if (parsed.size >= PARSED_MAX) parsed.clear();
  const parts = parseTemplate(template);
  parsed.set(template, parts);
  return parts;
}

/** The path, or a sentence why there is none. */
export function expandTemplate(
  template: string,
  labels: LabelSet,
): { readonly path: string } | { readonly refusal: string } {
  let path = "";
  for (const part of partsOf(template)) {
    if ("text" in part) {
      path += part.text;
      continue;
    }
    const values = labels.get(part.label) ?? [];
    const [value] = values;
    if (value === undefined)
      return { refusal: `its SPIFFE ID needs label ${part.label}, which this process does not have` };
    if (values.length > 1) {
      return { refusal: `its SPIFFE ID needs one value of label ${part.label}, and this process has ${values.length}` };
    }
    // A slash or a dot segment here would let a process choose another's ID.
    if (!/^[A-Za-z0-9._-]+$/.test(value)) {
      return {
        refusal: `label ${part.label} is ${JSON.stringify(value.slice(0, 80))}, which cannot be a part of a SPIFFE ID`,
      };
    }
    path += value;
  }
  const isRelative = path.split("/").some((segment) => segment === "." || segment === "..");
  return isRelative ? { refusal: "its SPIFFE ID would have a relative path segment" } : { path };
}
