// Writes a WorkloadIdentity that selects one living process and others like it. Pure.

import { basename } from "node:path";
import type { LabelSet } from "../label.ts";

/** Labels that tell programs apart and stay the same over restarts, in the order in which they are written. */
const STABLE = ["process:exe", "process:script", "process:uid", "systemd:unit", "container:runtime"] as const;

/** YAML; `workloadId` defaults to a name made of the program or its script. */
export function generateIdentity(labels: LabelSet, workloadId?: string): string {
  const name = nameOf(labels);
  const entries = STABLE.flatMap((label) => entryOf(labels, label));
  // A scope's unit name is made anew at each start, and an interpreter without a script is told by its first argument.
  const argument = labels.get("process:arg[1]")?.[0];
  if (!labels.has("process:script") && isInterpreter(labels) && argument !== undefined) {
    entries.push(["process:arg[1]", argument]);
  }
  return [
    "apiVersion: riprap.io/v1",
    "kind: WorkloadIdentity",
    "metadata:",
    `  name: ${name}`,
    "spec:",
    `  workloadID: ${quote(workloadId ?? name)}`,
    "  selectors:",
    ...entries.map(([label, value], index) => `    ${index === 0 ? "-" : " "} ${label}: ${quote(value)}`),
    "",
  ].join("\n");
}

function entryOf(labels: LabelSet, label: string): readonly [string, string][] {
  const [value] = labels.get(label) ?? [];
  if (value === undefined || (label === "systemd:unit" && !value.endsWith(".service"))) return [];
  return [[label, value]];
}

function isInterpreter(labels: LabelSet): boolean {
  return /^(?:python|node|perl|ruby|php|bash|sh|dash)[\d.]*$/.test(basename(labels.get("process:exe")?.[0] ?? ""));
}

/** Lower-case letters, digits and dashes, as resource names are. */
function nameOf(labels: LabelSet): string {
  const [file] = labels.get("process:script") ?? labels.get("process:exe") ?? labels.get("process:name") ?? [];
  const slug = basename(file ?? "")
    .replace(/\.[a-z]{1,4}$/i, "")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 63);
  return slug === "" ? "workload" : slug;
}

/** A JSON string is a YAML string; digits alone stay a number's text. */
function quote(value: string): string {
  return /^(?:\d+|[A-Za-z/][A-Za-z0-9/._-]*)$/.test(value) && !/^(?:true|false|null|yes|no|on|off|y|n)$/i.test(value)
    ? value
    : JSON.stringify(value);
}
