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
import { prefixesOf } from "../id_pattern.ts";

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

  verdict(connection: Connection): Verdict {
    return this.#lookUp(connection, undefined).verdict;
  }

  /** May a mutual connection stand, now that its peer is known? The rule is the one that says so; 0: none does. */
  judgePeer(connection: Connection, spiffeId: string): { readonly isAllowed: boolean; readonly rule: number } {
    const { verdict, allowedBy } = this.#lookUp(connection, spiffeId);
    // A match list that is empty beside a rule is a deny.
    if (verdict.matches.length === 0) return { isAllowed: false, rule: verdict.rule };
    return { isAllowed: allowedBy !== 0, rule: allowedBy };
  }

  #lookUp(
    { subject, inbound, remote, port }: Connection,
    peer: string | undefined,
  ): { verdict: Verdict; allowedBy: number } {
    const row = this.#subjects.get(subject);
    const refused = { action: ACTION.deny, rule: 0, matches: [] };
    // The module then falls back on the mode of unknown processes, which is none of the table's business.
    if (row === undefined) return { verdict: { ...refused, mode: MODE.observe, reason: REASON.noRule }, allowedBy: 0 };
    const mode = inbound ? row.ingressMode : row.egressMode;
    if (mode === MODE.none) return { verdict: { ...refused, mode, reason: REASON.noPolicy }, allowedBy: 0 };
    const matches: Match[] = [];
    let deniedBy = 0;
    let allowedBy = 0;
    for (const rule of this.#matching({ subject, inbound, remote, port })) {
      const isPeer = peer !== undefined && this.hasPeer(rule.peerSet, peer);
      if (rule.action === ACTION.deny) {
        // A deny that names peers waits until the peer is known.
        if (deniedBy === 0 && (rule.peerSet === 0 || isPeer)) deniedBy = rule.number;
      } else {
        if (isPeer && allowedBy === 0 && rule.action === ACTION.mutual) allowedBy = rule.number;
        matches.push({ rule: rule.number, action: rule.action, peerSet: rule.peerSet });
      }
    }
    const [first] = matches;
    if (deniedBy !== 0) return { verdict: { ...refused, mode, reason: REASON.rule, rule: deniedBy }, allowedBy: 0 };
    if (first === undefined) return { verdict: { ...refused, mode, reason: REASON.noRule }, allowedBy: 0 };
    return { verdict: { mode, action: first.action, reason: REASON.rule, rule: first.rule, matches }, allowedBy };
  }

  /** Most specific first: the longest address prefix, then the longest port prefix, then the lowest number. */
  #matching({ subject, inbound, remote, port }: Connection): TableRule[] {
    const shapes = this.#shapes.get(`${subject} ${inbound}`) ?? [];
    return shapes.flatMap((shape) => shape.rules.get(placeOf(shape, remote, port)) ?? []);
  }

  hasPeer(set: number, spiffeId: string): boolean {
    if (set === 0) return true;
    const patterns = this.#peers.get(set);
    if (patterns === undefined || spiffeId.endsWith("/")) return false;
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
