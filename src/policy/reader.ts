// The kernel's lookup over a compiled table, in TypeScript: what kernel/table.c does, for `explain` and as its oracle.

import type { TableFilter, TablePeer, TableRule, TableSubject } from "../abi.ts";
import {
  ABI,
  ACTION,
  MODE,
  PEER_MATCH,
  REASON,
  TABLE_FILTER,
  TABLE_HEAD,
  TABLE_PEER,
  TABLE_RULE,
  TABLE_SUBJECT,
} from "../abi.ts";
import { mask } from "../address.ts";
import { RiprapError } from "../error.ts";
import { prefixesOf } from "./subject.ts";

export interface Connection {
  readonly subject: number;
  readonly inbound: boolean;
  /** 16 bytes; IPv4 as ::ffff:a.b.c.d. */
  readonly remote: Uint8Array;
  /** The remote port outbound, the local one inbound. */
  readonly port: number;
}

export interface Match {
  readonly rule: number;
  readonly action: number;
  readonly peerSet: number;
}

/** struct riprap_verdict. */
export interface Verdict {
  readonly mode: number;
  /** Of the most specific match; deny when none or a deny matched. */
  readonly action: number;
  readonly reason: number;
  /** 0: none. */
  readonly rule: number;
  /** Allow matches, most specific first; empty when a deny matched. */
  readonly matches: readonly Match[];
}

interface Shape {
  readonly prefixLen: number;
  readonly portBits: number;
  readonly rules: Map<string, TableRule[]>;
}

export class TableReader {
  readonly generation: bigint;
  readonly filters: readonly (Omit<TableFilter, "name" | "exe"> & { readonly name: string; readonly exe: string })[];
  readonly rules: readonly TableRule[];
  readonly #subjects: ReadonlyMap<number, TableSubject>;
  readonly #shapes = new Map<string, Shape[]>();
  readonly #peers = new Map<number, Map<string, number>>();

  /** Throws RiprapError `table_invalid` when the sizes do not add up. */
  constructor(table: Uint8Array) {
    const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
    const head = TABLE_HEAD.decode(view, 0);
    const sections = [
      [TABLE_SUBJECT, head.subjects],
      [TABLE_RULE, head.rules],
      [TABLE_PEER, head.peers],
      [TABLE_FILTER, head.filters],
    ] as const;
    const starts = sections.map((_, i) =>
      sections.slice(0, i).reduce((at, [layout, n]) => at + layout.size * n, TABLE_HEAD.size),
    );
    const strings = sections.reduce((at, [layout, n]) => at + layout.size * n, TABLE_HEAD.size);
    if (head.magic !== ABI.TABLE_MAGIC || strings + head.stringBytes !== table.length) {
      throw new RiprapError(
        "table_invalid",
        `Cannot read the rule table: ${table.length} bytes do not hold what its head says`,
      );
    }
    const [subjectsAt = 0, rulesAt = 0, peersAt = 0, filtersAt = 0] = starts;
    const text = (offset: number, length: number) =>
      new TextDecoder().decode(table.subarray(strings + offset, strings + offset + length));
    this.generation = head.generation;
    this.#subjects = new Map(
      rowsOf<TableSubject>(TABLE_SUBJECT, view, subjectsAt, head.subjects).map((row) => [row.subject, row]),
    );
    this.rules = rowsOf<TableRule>(TABLE_RULE, view, rulesAt, head.rules);
    for (const rule of this.rules) this.#index(rule);
    for (const shapes of this.#shapes.values())
      shapes.sort((a, b) => b.prefixLen - a.prefixLen || b.portBits - a.portBits);
    for (const peer of rowsOf<TablePeer>(TABLE_PEER, view, peersAt, head.peers)) {
      const set = this.#peers.get(peer.set) ?? new Map<string, number>();
      this.#peers.set(peer.set, set.set(text(peer.string, peer.length), peer.match));
    }
    this.filters = rowsOf<TableFilter>(TABLE_FILTER, view, filtersAt, head.filters).map((row) => ({
      ...row,
      name: text(row.name, row.nameLen),
      exe: text(row.exe, row.exeLen),
    }));
  }

  /** Both NONE for a subject that is not there. */
  modesOf(subject: number): { readonly egressMode: number; readonly ingressMode: number } {
    return this.#subjects.get(subject) ?? { egressMode: MODE.none, ingressMode: MODE.none };
  }

  verdict({ subject, inbound, remote, port }: Connection): Verdict {
    const row = this.#subjects.get(subject);
    const mode = (inbound ? row?.ingressMode : row?.egressMode) ?? MODE.none;
    if (mode === MODE.none) return { mode, action: ACTION.plain, reason: REASON.noPolicy, rule: 0, matches: [] };
    const matches: Match[] = [];
    for (const shape of this.#shapes.get(`${subject} ${inbound}`) ?? []) {
      for (const rule of shape.rules.get(placeOf(shape, remote, port)) ?? []) {
        if (rule.action === ACTION.deny)
          return { mode, action: ACTION.deny, reason: REASON.rule, rule: rule.number, matches: [] };
        matches.push({ rule: rule.number, action: rule.action, peerSet: rule.peerSet });
      }
    }
    const [first] = matches;
    if (first === undefined) return { mode, action: ACTION.deny, reason: REASON.noRule, rule: 0, matches };
    return { mode, action: first.action, reason: REASON.rule, rule: first.rule, matches };
  }

  /** The number of the rule that lets this peer be the other end of a mutual connection; 0: none does. */
  allowsPeer(connection: Connection, spiffeId: string): number {
    const verdict = this.verdict(connection);
    if (verdict.action !== ACTION.mutual) return 0;
    return (
      verdict.matches.find((match) => match.action === ACTION.mutual && this.hasPeer(match.peerSet, spiffeId))?.rule ??
      0
    );
  }

  hasPeer(set: number, spiffeId: string): boolean {
    if (set === 0) return true;
    const patterns = this.#peers.get(set);
    if (patterns === undefined) return false;
    return (
      patterns.get(spiffeId) === PEER_MATCH.exact ||
      prefixesOf(spiffeId).some((prefix) => patterns.get(prefix) === PEER_MATCH.prefix)
    );
  }

  /** As written in rules: a prefix ends in a star. */
  peersOf(set: number): readonly string[] {
    return [...(this.#peers.get(set) ?? [])].map(([text, match]) => (match === PEER_MATCH.prefix ? `${text}*` : text));
  }

  #index(rule: TableRule): void {
    const key = `${rule.subject} ${rule.inbound === 1}`;
    const shapes = this.#shapes.get(key) ?? [];
    this.#shapes.set(key, shapes);
    let shape = shapes.find(({ prefixLen, portBits }) => prefixLen === rule.prefixLen && portBits === rule.portBits);
    if (shape === undefined) {
      shape = { prefixLen: rule.prefixLen, portBits: rule.portBits, rules: new Map() };
      shapes.push(shape);
    }
    const place = placeOf(shape, rule.address, rule.port);
    const there = shape.rules.get(place);
    if (there === undefined) shape.rules.set(place, [rule]);
    else there.push(rule);
  }
}

function placeOf(
  shape: { readonly prefixLen: number; readonly portBits: number },
  address: Uint8Array,
  port: number,
): string {
  const masked = mask(address, shape.prefixLen);
  return `${String.fromCharCode(...masked)}${port & (0xffff << (16 - shape.portBits)) & 0xffff}`;
}

function rowsOf<V>(
  layout: { readonly size: number; decode(view: DataView, offset: number): unknown },
  view: DataView,
  at: number,
  count: number,
): V[] {
  return Array.from({ length: count }, (_, i) => layout.decode(view, at + i * layout.size) as V);
}
