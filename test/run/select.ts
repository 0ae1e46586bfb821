// Which files of which tiers the words of `./run test` mean. Looks at names alone.

export interface TierFiles {
  name: string;
  /** In no order; none for a tier that is no `bun test`. */
  files: string[];
}

/** Refused with a sentence that says what there is. */
export type Selection = { tiers: TierFiles[] } | { refused: string };

/**
 * `words` name tiers, test files, or both; none means everything. A file is named by its path, by the end of it, or by that without
 * `.test.ts`. With files, a tier that is named and one that is not differ: only files of the named are meant.
 */
export function selectTests(words: readonly string[], tiers: readonly TierFiles[]): Selection {
  const named = tiers.filter(({ name }) => words.includes(name));
  const asked = words.filter((word) => !named.some(({ name }) => name === word));
  const among = named.length > 0 ? named : tiers;
  if (asked.length === 0) return { tiers: [...among] };
  const wanted = new Set<string>();
  for (const word of asked) {
    const found = among.flatMap(({ files }) => files).filter((file) => isMeant(file, word));
    if (found.length === 0) return { refused: `no tier and no test file ${word}${describe(word, among)}` };
    for (const file of found) wanted.add(file);
  }
  const chosen = among.map(({ name, files }) => ({ name, files: files.filter((file) => wanted.has(file)) }));
  return { tiers: chosen.filter(({ files }) => files.length > 0) };
}

function isMeant(file: string, word: string): boolean {
  const path = `/${file}`;
  const end = `/${word.replace(/^\.?\//, "")}`;
  return path.endsWith(end) || path.endsWith(`${end}.test.ts`);
}

function describe(word: string, among: readonly TierFiles[]): string {
  const tiers = `the tiers are ${among.map(({ name }) => name).join(", ")}`;
  const last = word.slice(word.lastIndexOf("/") + 1).replace(/\..*$/, "");
  const near = among.flatMap(({ files }) => files).filter((file) => last.length > 2 && file.includes(last));
  return near.length > 0 ? `; did you mean ${near.slice(0, 5).join(", ")}?` : `; ${tiers}, the files those of test/`;
}
