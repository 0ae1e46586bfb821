// Labels of the node, read once at start.

import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { kernelRelease } from "../libc.ts";

/** `node:name` is the name under which the node was enrolled. */
export function readNodeLabels(nodeName: string): ReadonlyMap<string, readonly string[]> {
  const labels = new Map<string, readonly string[]>([
    ["node:name", [nodeName]],
    ["node:hostname", [hostname()]],
    ["node:kernel", [kernelRelease()]],
  ]);
  const machineId = tryReadMachineId();
  if (machineId !== undefined) labels.set("node:machine_id", [machineId]);
  return labels;
}

function tryReadMachineId(): string | undefined {
  try {
    const text = readFileSync("/etc/machine-id", "utf8").trim();
    return /^[0-9a-f]{32}$/.test(text) ? text : undefined;
  } catch {
    return undefined;
  }
}
