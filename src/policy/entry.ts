// The flat rules of all subjects: sorted as the kernel wants them, each once, within the bounds of one lookup.
import { ABI, ACTION } from "../abi.ts";
import { RiprapError } from "../error.ts";
import type { RuleInfo } from "../policy.ts";
import type { SpiffeId } from "../spiffe_id.ts";
import { type Expander, type FlatRule, tooLarge } from "./expand.ts";
import type { PeerSets } from "./peer_set.ts";

/** Allow rules that one connection may rest on (RIPRAP_MATCHES_MAX of kernel/limits.h). */
export const MATCHES_MAX = 64;

export interface Entry {
  readonly subject: number;
  readonly inbound: boolean;
  readonly rule: FlatRule;
}

export class EntryList {
  readonly #expander: Expander;
  readonly #peers: PeerSets;
  readonly #entries: Entry[] = [];

  constructor(expander: Expander, peers: PeerSets) {
    this.#expander = expander;
    this.#peers = peers;
  }

  add(subject: number, inbound: boolean, rules: readonly FlatRule[]): void {
    for (const rule of rules) this.#entries.push({ subject, inbound, rule });
    // Four times: copies of one rule by several policies are dropped only after sorting.
    if (this.#entries.length > 4 * ABI.TABLE_RULES_MAX)
      throw tooLarge(`these need more than ${4 * ABI.TABLE_RULES_MAX}`);
  }

  /** All entries in table order. */
  finish(subjects: ReadonlyMap<number, SpiffeId>): readonly Entry[] {
    const sorted = this.#withoutCopies(this.#entries.sort(compareEntries));
    const finished: Entry[] = [];
    for (let from = 0; from < sorted.length; ) {
      const to = endOfRun(sorted, from, (a, b) => a.subject === b.subject && a.inbound === b.inbound);
      const direction = sorted.slice(from, to);
      for (const entry of this.#bound(direction, subjects)) finished.push(entry);
      from = to;
    }
    if (finished.length > ABI.TABLE_RULES_MAX) throw tooLarge(`these need ${finished.length}`);
    return finished;
  }

  ruleInfos(): ReadonlyMap<number, RuleInfo> {
    return this.#expander.infos;
  }

  /**
   * Of entries at one place: those of one rule become one with the peers of all (the order in the table is strict), and of
   * several rules that say the same, the first stays.
   */
  #withoutCopies(sorted: readonly Entry[]): readonly Entry[] {
    const kept: Entry[] = [];
    for (let from = 0; from < sorted.length; ) {
      const to = endOfRun(sorted, from, isSamePlace);
      const [only] = to - from === 1 ? sorted.slice(from, to) : [];
      if (only !== undefined) {
        kept.push(only);
      } else {
        const said = new Map<string, Entry>();
        for (const entry of this.#onePerRule(sorted.slice(from, to))) {
          const key = `${entry.rule.action} ${entry.rule.peerSet}`;
          if (!said.has(key)) said.set(key, entry);
        }
        kept.push(...said.values());
      }
      from = to;
    }
    return kept;
  }

  /** Entries of one place, sorted by number. */
  #onePerRule(entries: readonly Entry[]): readonly Entry[] {
    const single: Entry[] = [];
    for (let from = 0; from < entries.length; ) {
      const to = endOfRun(entries, from, (a, b) => a.rule.number === b.rule.number);
      const [first, ...others] = entries.slice(from, to);
      from = to;
      if (first === undefined) continue;
      const peerSet = this.#peers.union([first, ...others].map((entry) => entry.rule.peerSet));
      single.push(others.length === 0 ? first : { ...first, rule: { ...first.rule, peerSet } });
    }
    return single;
  }

  /** The entries of one subject and direction, joined where one connection could match too many. */
  #bound(entries: readonly Entry[], subjects: ReadonlyMap<number, SpiffeId>): readonly Entry[] {
    const { shapes, matches } = measure(entries);
    if (shapes <= ABI.TABLE_SHAPES_MAX && matches <= MATCHES_MAX) return entries;
    const joined = matches > MATCHES_MAX ? this.#join(entries) : entries;
    const after = measure(joined);
    if (shapes <= ABI.TABLE_SHAPES_MAX && after.matches <= MATCHES_MAX) return joined;
    const [first] = entries;
    const who = `the ${first?.inbound === true ? "ingress" : "egress"} rules for ${subjects.get(first?.subject ?? 0)}`;
    const fact = `${who} mix ${shapes} combinations of prefix length and port range, and the kernel looks up ${ABI.TABLE_SHAPES_MAX}`;
    const remedy = "use fewer different prefix lengths, and port ranges that begin and end at powers of two";
    throw new RiprapError("policy_too_complex", `Cannot compile policies: ${fact}; ${remedy}`);
  }

  /** One entry for all of the same place and action, with the peers of all. */
  #join(entries: readonly Entry[]): readonly Entry[] {
    const joined: Entry[] = [];
    for (let from = 0; from < entries.length; ) {
      const to = endOfRun(entries, from, (a, b) => isSamePlace(a, b) && a.rule.action === b.rule.action);
      const [first, ...others] = entries.slice(from, to);
      from = to;
      if (first === undefined) continue;
      if (others.length === 0) {
        joined.push(first);
        continue;
      }
      const all = [first, ...others].map((entry) => entry.rule);
      const number = this.#numberFor(all.map((rule) => rule.number));
      const peerSet = this.#peers.union(all.map((rule) => rule.peerSet));
      joined.push({ ...first, rule: { ...first.rule, number, peerSet } });
    }
    return joined;
  }

  readonly #numbers = new Map<string, number>();

  /** The same rules joined at another place get the same number. */
  #numberFor(numbers: readonly number[]): number {
    const distinct = [...new Set(numbers)].sort((a, b) => a - b);
    const [only] = distinct;
    if (distinct.length === 1 && only !== undefined) return only;
    const key = distinct.join();
    const there = this.#numbers.get(key) ?? this.#expander.join(distinct);
    this.#numbers.set(key, there);
    return there;
  }
}

/** Table order: subject, direction, prefix length, port bits, address, port, number. */
function compareEntries(a: Entry, b: Entry): number {
  return (
    a.subject - b.subject ||
    Number(a.inbound) - Number(b.inbound) ||
    comparePlace(a.rule, b.rule) ||
    a.rule.number - b.rule.number
  );
}

function comparePlace(a: FlatRule, b: FlatRule): number {
  return (
    a.address.length - b.address.length ||
    a.portBits - b.portBits ||
    a.words[0] - b.words[0] ||
    a.words[1] - b.words[1] ||
    a.words[2] - b.words[2] ||
    a.words[3] - b.words[3] ||
    a.port - b.port
  );
}

function isSamePlace(a: Entry, b: Entry): boolean {
  return a.subject === b.subject && a.inbound === b.inbound && comparePlace(a.rule, b.rule) === 0;
}

/** Lookups that the kernel makes for one connection, and allow rules that it could find at most. */
function measure(entries: readonly Entry[]): { shapes: number; matches: number } {
  const most = new Map<number, number>();
  for (let from = 0; from < entries.length; ) {
    const to = endOfRun(entries, from, isSamePlace);
    const rule = entries[from]?.rule;
    let allows = 0;
    for (let i = from; i < to; i++) if (entries[i]?.rule.action !== ACTION.deny) allows++;
    const shape = (rule?.address.length ?? 0) * 32 + (rule?.portBits ?? 0);
    most.set(shape, Math.max(most.get(shape) ?? 0, allows));
    from = to;
  }
  return { shapes: most.size, matches: [...most.values()].reduce((sum, count) => sum + count, 0) };
}

/** The first index past `from` whose entry is not like that at `from`. */
function endOfRun(entries: readonly Entry[], from: number, isLike: (a: Entry, b: Entry) => boolean): number {
  const first = entries[from];
  let to = from + 1;
  for (let next = entries[to]; first !== undefined && next !== undefined && isLike(first, next); next = entries[to])
    to++;
  return to;
}
