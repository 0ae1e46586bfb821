// Which functions of a JavaScript program took how much, by the samples that its runtime wrote down. Pure: from the text of a .cpuprofile.

export interface Share {
  /** Of all samples: in the function itself, and in it or in what it called. */
  readonly itself: number;
  readonly whole: number;
}

interface Node {
  readonly id: number;
  readonly callFrame: { readonly functionName: string };
  readonly children?: readonly number[];
}

interface Profile {
  readonly nodes: readonly Node[];
  /** Microseconds. */
  readonly startTime: number;
  readonly endTime: number;
  /** Ids of nodes, and the microseconds since the sample before. */
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** By function of the last `lastUs` microseconds, the greatest first; those without a name count as who called them. */
export function shareByFunction(text: string, lastUs: number): ReadonlyMap<string, Share> {
  const profile = JSON.parse(text) as Profile;
  const parents = new Map(profile.nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])));
  const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame.functionName]));
  const [itself, whole] = [new Map<string, number>(), new Map<string, number>()];
  let [at, taken] = [profile.startTime, 0];
  for (const [index, sample] of profile.samples.entries()) {
    at += profile.timeDeltas[index] ?? 0;
    if (at < profile.endTime - lastUs) continue;
    taken++;
    const callers = stackOf(sample, parents, names);
    add(itself, callers[0] ?? "(root)");
    for (const name of new Set(callers)) add(whole, name);
  }
  const shares = [...whole].map(([name, count]): [string, Share] => [
    name,
    { itself: (itself.get(name) ?? 0) / taken, whole: count / taken },
  ]);
  return new Map(shares.sort((a, b) => b[1].whole - a[1].whole));
}

/** Names from the innermost. */
function stackOf(sample: number, parents: ReadonlyMap<number, number>, names: ReadonlyMap<number, string>): string[] {
  const stack: string[] = [];
  for (let id: number | undefined = sample; id !== undefined; id = parents.get(id)) {
    const name = names.get(id);
    if (name !== undefined && !UNNAMED.has(name)) stack.push(name);
  }
  return stack;
}

const UNNAMED = new Set(["", "anonymous", "(root)", "(program)", "(module)"]);

function add(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}
