// What several records of the roots come to together: of each root the later state, whichever record came first. Pure.
import type { RootEntry } from "./body.ts";

const STATES: readonly RootEntry["state"][] = ["trusted", "retired", "revoked"];

type Root = Pick<RootEntry, "certificate" | "state" | "keep">;

/** Whether a root in the state `a` has come further than in `b`: states go one way. */
export function isLater(a: RootEntry["state"], b: RootEntry["state"]): boolean {
  return STATES.indexOf(a) > STATES.indexOf(b);
}

/** The roots of all records in the order of the first that names each. The same for any order of records, but for the order of roots and who brought them in. */
export function joinRoots<T extends Root>(records: readonly (readonly T[])[]): readonly T[] {
  const joined = new Map<string, T>();
  for (const root of records.flat()) {
    const held = joined.get(root.certificate);
    joined.set(root.certificate, held === undefined ? root : { ...held, ...joinRoot(held, root) });
  }
  return [...joined.values()];
}

/** Whether `record` says all that `other` says: their join is `record` itself. */
export function containsRoots(record: readonly Root[], other: readonly Root[]): boolean {
  return other.every((root) => {
    const own = record.find(({ certificate }) => certificate === root.certificate);
    if (own === undefined) return false;
    const { state, keep } = joinRoot(own, root);
    return state === own.state && keep.length === own.keep.length && keep.every((word) => own.keep.includes(word));
  });
}

/** Of a root that retired everything stands that any record lets stand; of one that was revoked only what all do. */
function joinRoot(a: Root, b: Root): Pick<Root, "state" | "keep"> {
  const { state, keep: words } = isLater(b.state, a.state) ? b : a;
  if (a.state !== b.state) return { state, keep: words };
  const keep =
    a.state === "revoked" ? a.keep.filter((word) => b.keep.includes(word)) : [...new Set([...a.keep, ...b.keep])];
  return { state: a.state, keep };
}
