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

/** Looks at a process that not every label needs. */
export interface LooksWanted {
  readonly argv: boolean;
  readonly cgroup: boolean;
  /** Beside user and group, which are always looked at. */
  readonly status: boolean;
  readonly capabilities: boolean;
  /** What has to be looked for under a pin. */
  readonly pinned: boolean;
}

const looks = new WeakMap<WantedLabels, LooksWanted>();

/** Worked out once for each change of the rules. */
export function looksFor(wanted: WantedLabels): LooksWanted {
  const known = looks.get(wanted);
  if (known !== undefined) return known;
  const hasAny = (...prefixes: readonly string[]) => prefixes.some((prefix) => wanted.hasPrefix(prefix));
  const capabilities = wanted.has("process:caps");
  const found = {
    argv: hasAny("process:cmdline", "process:arg[", "process:script"),
    cgroup: hasAny("systemd:", "container:"),
    status: capabilities || wanted.has("process:no_new_privs") || wanted.has("process:seccomp"),
    capabilities,
    pinned:
      hasAny("process:script", "process:ancestor:") ||
      ["process:exe:sha256", RUNNING_DIGEST, "process:group"].some((label) => wanted.has(label)),
  };
  looks.set(wanted, found);
  return found;
}

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
