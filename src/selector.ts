// Which identity a process gets: selectors against labels. Never looks at the process itself.

import { expandTemplate } from "./id_template.ts";
import type { LabelSet } from "./label.ts";
import { isReservedPath } from "./reserved_id.ts";
import type { LabelEntry, ResourceSet, Scope, Selector, WorkloadIdentity } from "./resource.ts";
import { writeIdentity } from "./selector/generate.ts";
import { SpiffeId } from "./spiffe_id.ts";

/** One WorkloadIdentity that selects a process. */
export interface IdentityMatch {
  readonly identity: WorkloadIdentity;
  /** Undefined: selected, but the ID cannot be made of these labels; `because` ends with the reason. */
  readonly spiffeId: SpiffeId | undefined;
  /** A sentence for each entry of the selector that matched. */
  readonly because: readonly string[];
  /** Another match of the same rank gives another ID, and only the name decided between them. */
  readonly isAmbiguous: boolean;
}

/**
 * Every WorkloadIdentity that selects these labels, in order of precedence: more label entries in the selector that
 * matched first, then by name. The first is in force; when it has no `spiffeId` the process is refused an identity, and
 * the next does not take its place.
 */
export function matchIdentities(labels: LabelSet, resources: ResourceSet): readonly IdentityMatch[] {
  const found: { identity: WorkloadIdentity; selector: Selector; scope: string }[] = [];
  for (const identity of resources.identities) {
    const scope = inScope(identity.scope, labels);
    if (scope === undefined) continue;
    // Of one identity's maps the most specific counts.
    const matching = identity.selectors.filter((selector) => selects(selector, labels));
    const selector = matching.reduce<Selector | undefined>(
      (best, next) => (rank(next) > rank(best) ? next : best),
      undefined,
    );
    if (selector !== undefined) found.push({ identity, selector, scope });
  }
  // Identities come sorted by name and the sort is stable.
  found.sort((a, b) => rank(b.selector) - rank(a.selector));
  return found.map(({ identity, selector, scope }) => {
    const expanded = expandTemplate(identity.workloadId, labels);
    // A label may have any value, the daemon's own name too.
    const isReserved = "path" in expanded && isReservedPath(expanded.path);
    const spiffeId =
      "path" in expanded && !isReserved ? tryParseId(`${resources.trustDomain.id}/${expanded.path}`) : undefined;
    const refusal = "refusal" in expanded ? expanded.refusal : refusalOf(isReserved);
    const because = [
      ...selector.entries.map((entry) => describeMatch(entry, labels)),
      ...(scope === "" ? [] : [scope]),
    ];
    if (spiffeId === undefined) because.push(refusal);
    const isAmbiguous = found.some(
      (other) => rank(other.selector) === rank(selector) && other.identity.workloadId !== identity.workloadId,
    );
    return { identity, spiffeId, because, isAmbiguous };
  });
}

/**
 * YAML for a WorkloadIdentity that selects a process with these labels by executable, script, unit and user; never by
 * PID or digest, which the next start or update changes. Without `workloadId` one is made of the program's name. Throws
 * RiprapError `invalid` when too little is known of the process.
 */
export function generateWorkloadIdentity(labels: LabelSet, workloadId?: string): string {
  return writeIdentity(labels, workloadId);
}

/** Do the labels satisfy every entry? */
export function selects(selector: Selector, labels: LabelSet): boolean {
  return selector.entries.every((entry) => matchedValue(entry, labels) !== undefined);
}

/** As many as a node has workloads, mostly; parsed again and again as their processes are judged. */
const IDS_MAX = 1024;
const ids = new Map<string, SpiffeId>();

function tryParseId(text: string): SpiffeId | undefined {
  const known = ids.get(text);
  if (known !== undefined) return known;
  const id = SpiffeId.tryParse(text);
  if (id !== undefined) {
    if (ids.size >= IDS_MAX) ids.clear();
    ids.set(text, id);
  }
  return id;
}

function refusalOf(isReserved: boolean): string {
  return isReserved ? "its SPIFFE ID would be among the daemon's own" : "its SPIFFE ID would be longer than 2048 bytes";
}

function rank(selector: Selector | undefined): number {
  return selector?.entries.length ?? 0;
}

/** The value of the process that satisfies the entry. */
function matchedValue(entry: LabelEntry, labels: LabelSet): string | undefined {
  return labels.get(entry.label)?.find((value) => entry.values.some((wanted) => matchesValue(entry, wanted, value)));
}

function matchesValue(entry: LabelEntry, wanted: string, value: string): boolean {
  if (entry.match !== "exact" && wanted.endsWith("*")) return value.startsWith(wanted.slice(0, -1));
  // A command line goes on after whole words only: "python a.py" is not "python a.pyc".
  return value === wanted || (entry.match === "words" && value.startsWith(`${wanted} `));
}

function describeMatch(entry: LabelEntry, labels: LabelSet): string {
  const value = matchedValue(entry, labels) ?? "";
  const shown = JSON.stringify(value.length > 120 ? `${value.slice(0, 120)}…` : value);
  return `${entry.label} is ${shown}`;
}

/** Undefined: out of scope. Else a sentence, or nothing for an identity without a scope. */
function inScope(scope: Scope | undefined, labels: LabelSet): string | undefined {
  if (scope === undefined) return "";
  if (scope.type === "node") {
    return labels.get("node:name")?.includes(scope.id) === true ? `this node is ${scope.id}` : undefined;
  }
  const groups = labels.get("node:group");
  // A node that belongs to no fleet knows no groups: what lies in its own rules directory is meant for it.
  if (groups === undefined) return `this node is in no group, so node group ${scope.id} includes it`;
  return groups.includes(scope.id) ? `this node is in group ${scope.id}` : undefined;
}
