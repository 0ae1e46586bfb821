// A WorkloadIdentity in YAML for a process that runs: labels that tell it from others and survive a restart.
import { RiprapError } from "../error.ts";
import { expandTemplate } from "../id_template.ts";
import type { LabelSet } from "../label.ts";

/**
 * YAML that selects a process with these labels by executable, script (or command line for an interpreter that has
 * none), unit and user; never by PID or digest, which the next start or update changes. Without `workloadId` one is made of
 * the program's name. Throws RiprapError `invalid` when too little is known of the process.
 */
export function writeIdentity(labels: LabelSet, workloadId?: string): string {
  const chosen = chooseLabels(labels);
  if (chosen.length === 0) {
    throw new RiprapError(
      "invalid",
      "Cannot generate a WorkloadIdentity: neither the executable nor the name of the process is known",
    );
  }
  const id = workloadId ?? defaultId(labels);
  const name = id
    .replace(/^spiffe:\/\/[^/]+\//, "")
    .toLowerCase()
    .replaceAll(/[^a-z0-9.-]+/g, "-")
    .replaceAll(/^[^a-z0-9]+|[^a-z0-9]+$/g, "");
  const lines = [
    "apiVersion: riprap.io/v1",
    "kind: WorkloadIdentity",
    `metadata: { name: ${name === "" ? "workload" : name.slice(0, 200)} }`,
    "spec:",
    `  workloadID: ${JSON.stringify(id)}`,
    "  selectors:",
    ...chosen.map(({ label, values }, i) => `    ${i === 0 ? "-" : " "} ${label}: ${showValues(values)}`),
  ];
  return `${lines.join("\n")}\n`;
}

function chooseLabels(labels: LabelSet): { readonly label: string; readonly values: readonly string[] }[] {
  const known = (label: string) => {
    const values = (labels.get(label) ?? []).filter(
      (value) => value.trim() === value && value !== "" && !/[\0\r\n]/.test(value),
    );
    return values.length === 1 ? [{ label, values }] : [];
  };
  const exe = known("process:exe").filter(({ values: [path = ""] }) => isResolved(path));
  const script = known("process:script").filter(({ values: [path = ""] }) => isResolved(path));
  const programs = [...(exe.length > 0 ? exe : known("process:name")), ...script];
  if (programs.length === 0) return [];
  // An interpreter is nobody in particular: without a script its arguments must tell.
  const line = script.length === 0 && isInterpreter(exe[0]?.values[0] ?? "") ? known("process:cmdline") : [];
  return [...programs, ...line, ...known("systemd:unit").filter(isLasting), ...known("process:uid")];
}

/** A path that a rule can name exactly: a deleted file's path, or one that ends in a star, is none. */
function isResolved(path: string): boolean {
  return path.startsWith("/") && !path.endsWith("*") && !path.endsWith(" (deleted)");
}

function isInterpreter(exe: string): boolean {
  return /\/(python|pypy|node|bun|deno|perl|ruby|php|lua|java|sh|bash|dash|zsh|ksh)[\d.]*$/.test(exe);
}

/** Scopes are named after a session or a PID. */
function isLasting({ values: [unit = ""] }: { readonly values: readonly string[] }): boolean {
  return unit.endsWith(".service");
}

function defaultId(labels: LabelSet): string {
  const script = labels.get("process:script")?.[0];
  const [name = "workload"] = labels.get("process:name") ?? [];
  const base = script === undefined ? name : script.slice(script.lastIndexOf("/") + 1).replace(/\.[a-z]+$/, "");
  const safe = base.replaceAll(/[^A-Za-z0-9._-]+/g, "-").replaceAll(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, "");
  return "path" in expandTemplate(safe, labels) && safe !== "" ? safe : "workload";
}

function showValues(values: readonly string[]): string {
  const shown = values.map((value) => JSON.stringify(value));
  return shown.length === 1 ? (shown[0] ?? "") : `[${shown.join(", ")}]`;
}
