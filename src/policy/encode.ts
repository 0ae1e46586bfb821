// The compiled table as bytes: struct riprap_table, then subjects, rules, peers, filters and strings.
import { ABI, TABLE_FILTER, TABLE_HEAD, TABLE_PEER, TABLE_RULE, TABLE_SUBJECT } from "../abi.ts";
import type { Entry } from "./entry.ts";
import { tooLarge } from "./expand.ts";
import type { Filter } from "./filter.ts";
import type { PeerRow } from "./peer_set.ts";

export interface SubjectRow {
  readonly subject: number;
  readonly egressMode: number;
  readonly ingressMode: number;
}

export interface TableParts {
  readonly generation: bigint;
  /** Each sorted as kernel/abi.h says. */
  readonly subjects: readonly SubjectRow[];
  readonly rules: readonly Entry[];
  readonly peers: readonly PeerRow[];
  readonly filters: readonly Filter[];
}

export function encodeTable(parts: TableParts): Uint8Array {
  const strings = new StringBlock([
    ...parts.peers.map((peer) => peer.text),
    ...parts.filters.flatMap((filter) => [filter.name, filter.exe]),
  ]);
  if (parts.subjects.length > ABI.TABLE_SUBJECTS_MAX) throw tooLarge(`there are ${parts.subjects.length} identities`);
  const size =
    TABLE_HEAD.size +
    parts.subjects.length * TABLE_SUBJECT.size +
    parts.rules.length * TABLE_RULE.size +
    parts.peers.length * TABLE_PEER.size +
    parts.filters.length * TABLE_FILTER.size +
    strings.bytes.length;
  if (size > ABI.TABLE_MAX) throw tooLarge(`the table would have ${size} bytes, more than ${ABI.TABLE_MAX}`);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  TABLE_HEAD.put(view, 0, {
    magic: ABI.TABLE_MAGIC,
    version: ABI.ABI_VERSION,
    generation: parts.generation,
    subjects: parts.subjects.length,
    rules: parts.rules.length,
    peers: parts.peers.length,
    filters: parts.filters.length,
    stringBytes: strings.bytes.length,
  });
  let at = TABLE_HEAD.size;
  for (const row of parts.subjects) at = putAt(TABLE_SUBJECT, at, () => TABLE_SUBJECT.put(view, at, row));
  for (const entry of parts.rules) at = putRule(view, bytes, at, entry);
  for (const { set, text, match } of parts.peers) {
    const { offset: string, length } = strings.find(text);
    at = putAt(TABLE_PEER, at, () => TABLE_PEER.put(view, at, { set, string, length, match }));
  }
  for (const filter of parts.filters) {
    const name = strings.find(filter.name);
    const exe = strings.find(filter.exe);
    const row = { name: name.offset, nameLen: name.length, exe: exe.offset, exeLen: exe.length };
    at = putAt(TABLE_FILTER, at, () => TABLE_FILTER.put(view, at, { has: filter.has, uid: filter.uid, ...row }));
  }
  bytes.set(strings.bytes, at);
  return bytes;
}

function putAt(layout: { readonly size: number }, at: number, put: () => void): number {
  put();
  return at + layout.size;
}

const RULE_AT = Object.fromEntries(TABLE_RULE.fields.map((field) => [field.name, field.offset])) as Readonly<
  Record<
    "number" | "subject" | "address" | "port" | "prefixLen" | "portBits" | "inbound" | "action" | "peerSet",
    number
  >
>;

/** By hand: the general codec takes a second for the largest table. Offsets are the codec's. */
function putRule(view: DataView, bytes: Uint8Array, at: number, { subject, inbound, rule }: Entry): number {
  view.setUint32(at + RULE_AT.number, rule.number, true);
  view.setUint32(at + RULE_AT.subject, subject, true);
  bytes.set(rule.address.bytes, at + RULE_AT.address);
  view.setUint16(at + RULE_AT.port, rule.port, true);
  view.setUint8(at + RULE_AT.prefixLen, rule.address.length);
  view.setUint8(at + RULE_AT.portBits, rule.portBits);
  view.setUint8(at + RULE_AT.inbound, inbound ? 1 : 0);
  view.setUint8(at + RULE_AT.action, rule.action);
  view.setUint32(at + RULE_AT.peerSet, rule.peerSet, true);
  return at + TABLE_RULE.size;
}

/** Each string once, in the order of its bytes: the order of offsets is then the order of the strings. */
class StringBlock {
  readonly bytes: Uint8Array;
  readonly #places = new Map<string, { readonly offset: number; readonly length: number }>([
    ["", { offset: 0, length: 0 }],
  ]);

  constructor(texts: readonly string[]) {
    const encoded = [...new Set(texts)]
      .filter((text) => text !== "")
      .map((text) => ({ text, bytes: Buffer.from(text) }));
    encoded.sort((a, b) => a.bytes.compare(b.bytes));
    let offset = 0;
    for (const { text, bytes } of encoded) {
      this.#places.set(text, { offset, length: bytes.length });
      offset += bytes.length;
    }
    this.bytes = Buffer.concat(encoded.map((string) => string.bytes));
  }

  find(text: string): { readonly offset: number; readonly length: number } {
    const place = this.#places.get(text);
    if (place === undefined) throw new TypeError(`string ${JSON.stringify(text)} is not in the block`);
    return place;
  }
}
