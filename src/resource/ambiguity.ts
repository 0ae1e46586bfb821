// Two rules for one process: identical selectors are an error, overlapping ones of equal rank a warning.
import type { LabelEntry, Selector, WorkloadIdentity } from "../resource.ts";
import type { ProblemList } from "./problem.ts";

/** Pairs looked at for a warning; the precedence itself needs none. */
const PAIRS_MAX = 200_000;

interface Candidate {
  readonly identity: WorkloadIdentity;
  readonly selector: Selector;
  readonly index: number;
}

export function checkAmbiguity(identities: readonly WorkloadIdentity[], problems: ProblemList): void {
  const candidates = identities.flatMap((identity) =>
    identity.selectors.map((selector, index) => ({ identity, selector, index })),
  );
  const same = new Map<string, Candidate>();
  for (const candidate of candidates) {
    const key = JSON.stringify([candidate.identity.scope ?? null, candidate.selector.entries]);
    const first = same.get(key);
    if (first === undefined) same.set(key, candidate);
    else if (outcome(first.identity) !== outcome(candidate.identity)) refuse(first, candidate, problems);
  }
  warnOfOverlap(candidates, problems);
}

function outcome(identity: WorkloadIdentity): string {
  return JSON.stringify([identity.workloadId, identity.ttlSeconds ?? null, identity.dnsNames, identity.delivery]);
}

function refuse(first: Candidate, second: Candidate, problems: ProblemList): void {
  const { file, line } = first.selector.source;
  const message = `WorkloadIdentity ${first.identity.name} (${file}:${line}) has the same selectors, so a process would have two identities`;
  const place = { ...second.selector.source, code: "identity_ambiguous", field: fieldOf(second) };
  problems.error({ ...place, message, remedy: "make one of them more specific, or remove it" });
}

function fieldOf({ identity, index }: Candidate): string {
  return identity.selectors.length === 1 ? "spec.selectors" : `spec.selectors[${index}]`;
}

/** Only what is sure to overlap is told: the same labels with values in common. */
function warnOfOverlap(candidates: readonly Candidate[], problems: ProblemList): void {
  let pairs = 0;
  const groups = new Map<string, Candidate[]>();
  for (const candidate of candidates) {
    const names = candidate.selector.entries.map((entry) => entry.label).join(" ");
    const indexed = candidate.selector.entries.find((entry) => entry.match === "exact");
    const rivals = new Set<Candidate>();
    for (const value of indexed?.values ?? [""]) {
      const key = `${names}\0${indexed?.label ?? ""}\0${value}`;
      const group = groups.get(key);
      for (const other of group ?? []) rivals.add(other);
      if (group === undefined) groups.set(key, [candidate]);
      else group.push(candidate);
    }
    for (const other of rivals) {
      if (++pairs > PAIRS_MAX) return;
      if (other.identity !== candidate.identity && overlaps(other, candidate)) warn(other, candidate, problems);
    }
  }
}

function overlaps(a: Candidate, b: Candidate): boolean {
  if (a.identity.workloadId === b.identity.workloadId || isSameSelector(a.selector, b.selector)) return false;
  if (
    a.identity.scope?.type === "node" &&
    b.identity.scope?.type === "node" &&
    a.identity.scope.id !== b.identity.scope.id
  )
    return false;
  return a.selector.entries.every((entry, i) => {
    const other = b.selector.entries[i];
    return other !== undefined && entry.values.some((x) => other.values.some((y) => canBoth(entry, x, y)));
  });
}

function isSameSelector(a: Selector, b: Selector): boolean {
  return JSON.stringify(a.entries) === JSON.stringify(b.entries);
}

function canBoth(entry: LabelEntry, x: string, y: string): boolean {
  if (x === y) return true;
  if (entry.match === "exact") return false;
  const [short, long] = x.length < y.length ? [x, y] : [y, x];
  if (short.endsWith("*")) return long.startsWith(short.slice(0, -1));
  return entry.match === "words" && long.startsWith(`${short} `);
}

function warn(a: Candidate, b: Candidate, problems: ProblemList): void {
  const message = `a process can match this and WorkloadIdentity ${a.identity.name}, equally specific; ${a.identity.name} comes first by name`;
  const place = { ...b.selector.source, code: "identity_overlaps", field: fieldOf(b) };
  problems.warn({ ...place, message, remedy: "add a label to the one that should come first" });
}
