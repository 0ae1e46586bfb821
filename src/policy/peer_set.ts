// Sets of peer patterns, numbered from 1, each held once. Set 0 is any peer of a trusted domain.

import { ABI, PEER_MATCH } from "../abi.ts";
import { RiprapError } from "../error.ts";
import { type IdPattern, prefixesOf } from "../id_pattern.ts";

export interface PeerRow {
  readonly set: number;
  readonly text: string;
  readonly match: number;
}

export class PeerSets {
  readonly #numbers = new Map<string, number>();
  readonly #sets: (readonly IdPattern[])[] = [[]];
  #rows = 0;

  /** The number of this set; 0 for no patterns. */
  intern(patterns: readonly IdPattern[]): number {
    if (patterns.length === 0) return 0;
    const needed = withoutCovered(patterns);
    const key = needed.map((pattern) => pattern.text).join("\0");
    const there = this.#numbers.get(key);
    if (there !== undefined) return there;
    this.#rows += needed.length;
    // Four times: sets that were joined into others are dropped in the end.
    if (this.#rows > 4 * ABI.TABLE_PEERS_MAX) throw tooManyPeers();
    this.#sets.push(needed);
    this.#numbers.set(key, this.#sets.length - 1);
    return this.#sets.length - 1;
  }

  /** The set that holds whatever one of these holds. */
  union(numbers: readonly number[]): number {
    if (numbers.includes(0)) return 0;
    return this.intern(numbers.flatMap((number) => this.#sets[number] ?? []));
  }

  /** Of the sets in use: sorted by set, then text. */
  rows(used: ReadonlySet<number>): readonly PeerRow[] {
    const rows = this.#sets.flatMap((patterns, set) =>
      used.has(set) ? patterns.map(({ text, match }) => ({ set, text, match: PEER_MATCH[match] })) : [],
    );
    if (rows.length > ABI.TABLE_PEERS_MAX) throw tooManyPeers();
    return rows;
  }
}

function tooManyPeers(): RiprapError {
  const fact = `rules name more than ${ABI.TABLE_PEERS_MAX} peers`;
  return new RiprapError("policy_too_large", `Cannot compile policies: ${fact}; use prefixes like team/*`);
}

/** Sorted by text (IDs are ASCII), each once, without what a prefix of the same set covers already. */
function withoutCovered(patterns: readonly IdPattern[]): readonly IdPattern[] {
  const byText = new Map(patterns.map((pattern) => [pattern.text, pattern]));
  const isPrefix = (text: string) => byText.get(text)?.match === "prefix";
  return [...byText.values()]
    .filter(({ text }) => !prefixesOf(text).some(isPrefix))
    .sort((a, b) => (a.text < b.text ? -1 : 1));
}
