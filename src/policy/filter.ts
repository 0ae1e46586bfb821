// What a process must look like for any identity to be able to select it: the kernel asks nothing about others.
import { ABI, FILTER_HAS } from "../abi.ts";
import type { Selector, WorkloadIdentity } from "../resource.ts";

export interface Filter {
  /** Bits of FILTER_HAS; what is not named is not compared. */
  readonly has: number;
  readonly uid: number;
  readonly name: string;
  readonly exe: string;
}

const MATCHES_ALL: Filter = { has: 0, uid: 0, name: "", exe: "" };
/** Past it a selector is told by fewer labels; still a necessary condition, only a weaker one. */
const FILTERS_PER_SELECTOR = 256;

/** At most RIPRAP_TABLE_FILTERS_MAX; one that matches all when more would be needed. None without identities. */
export function deriveFilters(identities: readonly WorkloadIdentity[]): readonly Filter[] {
  const filters = new Map<string, Filter>();
  for (const identity of identities) {
    for (const selector of identity.selectors) {
      for (const filter of filtersOf(selector)) {
        if (filter.has === 0) return [MATCHES_ALL];
        filters.set(keyOf(filter), filter);
        if (filters.size > ABI.TABLE_FILTERS_MAX) return [MATCHES_ALL];
      }
    }
  }
  return [...filters].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, filter]) => filter);
}

function keyOf(filter: Filter): string {
  return [filter.has, filter.uid, filter.name, filter.exe].join("\0");
}

function filtersOf(selector: Selector): readonly Filter[] {
  let uids = valuesOf(selector, "process:uid");
  let names = valuesOf(selector, "process:name");
  let exes = valuesOf(selector, "process:exe");
  // A path with a * at its end, or one that the kernel does not compare whole, says nothing here.
  if (exes?.some((exe) => exe.endsWith("*") || Buffer.byteLength(exe) >= ABI.PATH_MAX) === true) exes = undefined;
  const product = () => (uids?.length ?? 1) * (names?.length ?? 1) * (exes?.length ?? 1);
  if (product() > FILTERS_PER_SELECTOR) exes = undefined;
  if (product() > FILTERS_PER_SELECTOR) names = undefined;
  if (product() > FILTERS_PER_SELECTOR) uids = undefined;
  const has =
    (uids === undefined ? 0 : FILTER_HAS.uid) |
    (names === undefined ? 0 : FILTER_HAS.name) |
    (exes === undefined ? 0 : FILTER_HAS.exe);
  return (uids ?? ["0"]).flatMap((uid) =>
    (names ?? [""]).flatMap((name) => (exes ?? [""]).map((exe) => ({ has, uid: Number(uid), name, exe }))),
  );
}

function valuesOf(selector: Selector, label: string): readonly string[] | undefined {
  return selector.entries.find((entry) => entry.label === label)?.values;
}
