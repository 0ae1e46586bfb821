// Which labels the rules ask for, so that nobody pays for the others. Pure.

import type { ResourceSet } from "../../resource.ts";

export interface WantedLabels {
  has(label: string): boolean;
  hasPrefix(prefix: string): boolean;
}

/**
 * The label by which an executable is revoked: of what runs, whatever has become of its file. A rule's `process:exe:sha256` is another thing, the
 * digest of a file that is as it was when the program began; one that anybody can void by touching the file must not be what a revocation looks at.
 */
export const RUNNING_DIGEST = "process:exe:sha256:running";

/** For a person who asks: everything that a rule can name. */
export const ALL_LABELS: WantedLabels = { has: (label) => label !== RUNNING_DIGEST, hasPrefix: () => true };

/** The labels of every selector and of every SPIFFE ID template. */
export function wantedLabels(resources: Pick<ResourceSet, "identities">): WantedLabels {
  const wanted = new Set<string>();
  for (const { selectors, workloadId } of resources.identities) {
    for (const { entries } of selectors) for (const { label } of entries) wanted.add(label);
    // Labels in brackets; one may end in brackets of its own: [process:arg[1]].
    for (const [, label] of workloadId.matchAll(/\[((?:[^[\]]|\[\d+\])+)\]/g)) wanted.add(label ?? "");
  }
  const all = [...wanted];
  return { has: (label) => wanted.has(label), hasPrefix: (prefix) => all.some((label) => label.startsWith(prefix)) };
}
