// The revoked ones among all serial numbers that an authority signed in a span of time, exactly, in little more than their entropy. Knows no certificate and no clock.

import { RiprapError } from "./error.ts";
import { Ribbon, WIDTH_MAX } from "./serial_set/ribbon.ts";
import { SERIAL_BYTES, wordAt } from "./serial_set/serial_hash.ts";

const FORMAT = 1;
/** Format, from, until, end, how many, width, seed; how many in the second table, its seed. */
const HEAD_BYTES = 1 + 3 * 6 + 4 + 1 + 1 + 4 + 1;
/** In the place of the width: the serial numbers themselves follow. */
const LISTED = 0xff;
/** A ribbon of a seed has no solution once in some hundred; that none of these has one does not happen. */
const SEEDS_MAX = 64;

/** The time of signing as serial numbers hold it: their first six octets as one number. */
export interface SerialSpan {
  readonly from: number;
  /** Without it. */
  readonly until: number;
}

export interface SerialSetSource extends SerialSpan {
  /** Every serial number of the span that may matter still, 20 octets each, in ascending order. */
  readonly serials: Uint8Array;
  /** Whether the serial number with this index is revoked. */
  isRevoked(index: number): boolean;
  /** When the last revoked certificate ends, in milliseconds since the epoch: nothing rests on the set from then on. */
  readonly end: number;
}

/** Two tables, as in Clubcard: the first takes all revoked ones and few others, the second tells those apart. Either may be needless. */
type Form =
  | { readonly type: "listed"; readonly serials: Uint8Array }
  | { readonly type: "tables"; readonly first: Ribbon | undefined; readonly second: Ribbon | undefined };

/**
 * For the serial numbers that it was made of the answer is exact. It says no to all that were not signed in its span, those that are signed later among them. For a
 * serial number of the span that it was not made of (its certificate had ended, or never was) the answer means nothing.
 */
export class SerialSet {
  readonly span: SerialSpan;
  readonly end: number;
  /** How many are revoked. */
  readonly count: number;
  readonly #form: Form;
  /** Of the form, for the many who are refused here. */
  readonly #first: Ribbon | undefined;

  private constructor({ span, end, count, form }: { span: SerialSpan; end: number; count: number; form: Form }) {
    this.span = span;
    this.end = end;
    this.count = count;
    this.#form = form;
    this.#first = form.type === "tables" ? form.first : undefined;
  }

  /** The same octets for the same source. A source that is out of order or out of its span is a programmer's mistake (RangeError). */
  static make(source: SerialSetSource): SerialSet {
    const { serials, end } = source;
    const span = { from: source.from, until: source.until };
    checkSource(serials, span);
    const revoked = indexesOf(serials.length / SERIAL_BYTES, (index) => source.isRevoked(index));
    const set = (form: Form) => new SerialSet({ span, end, count: revoked.length, form });
    const listed = set({ type: "listed", serials: gather(serials, revoked) });
    // A list of so many is never the shorter.
    const tables = revoked.length === 0 ? undefined : makeTables(source, revoked);
    if (tables === undefined) return listed;
    const packed = set(tables);
    return packed.write().length < listed.write().length ? packed : listed;
  }

  /** What write() wrote. Throws RiprapError `serial_set_malformed`; the time it takes is that of reading the octets. */
  static parse(bytes: Uint8Array): SerialSet {
    if (bytes.length < HEAD_BYTES) throw malformed("it is cut short");
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    if (view.readUInt8(0) !== FORMAT)
      throw malformed(`it is not of format ${FORMAT}; use the same riprap on all nodes`);
    const span = { from: view.readUIntBE(1, 6), until: view.readUIntBE(7, 6) };
    const end = view.readUIntBE(13, 6);
    const count = view.readUInt32BE(19);
    if (span.from >= span.until) throw malformed("its span is empty");
    const rest = bytes.subarray(HEAD_BYTES);
    const [width, seed] = [view.readUInt8(23), view.readUInt8(24)];
    const second = { count: view.readUInt32BE(25), width: 1, seed: view.readUInt8(29) };
    if (width === LISTED) {
      if (seed !== 0 || second.count !== 0 || second.seed !== 0) throw malformed("a list has no tables");
      return new SerialSet({ span, end, count, form: readList(rest, { count, span }) });
    }
    return new SerialSet({ span, end, count, form: readTables(rest, { first: { count, width, seed }, second }) });
  }

  write(): Uint8Array {
    const form = this.#form;
    const isListed = form.type === "listed";
    const first = isListed ? undefined : form.first;
    const second = isListed ? undefined : form.second;
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt8(FORMAT, 0);
    head.writeUIntBE(this.span.from, 1, 6);
    head.writeUIntBE(this.span.until, 7, 6);
    head.writeUIntBE(this.end, 13, 6);
    head.writeUInt32BE(this.count, 19);
    head.writeUInt8(isListed ? LISTED : (first?.shape.width ?? 0), 23);
    head.writeUInt8(first?.shape.seed ?? 0, 24);
    head.writeUInt32BE(second?.shape.count ?? 0, 25);
    head.writeUInt8(second?.shape.seed ?? 0, 29);
    const parts = isListed ? [form.serials] : [first, second].flatMap((table) => table?.write() ?? []);
    return Uint8Array.from(Buffer.concat([head, ...parts]));
  }

  /** Whether the serial number whose 20 octets begin at `at` is revoked. */
  has(serials: Uint8Array, at = 0): boolean {
    const time = timeOf(serials, at);
    if (time < this.span.from || time >= this.span.until) return false;
    const first = this.#first;
    if (first !== undefined && !first.agrees(serials, at)) return false;
    const form = this.#form;
    return form.type === "listed" ? isListed(form.serials, serials, at) : form.second?.agrees(serials, at) !== false;
  }

  /** The revoked ones among serial numbers of 20 octets each, in hexadecimal. */
  among(serials: Uint8Array): readonly string[] {
    const found: string[] = [];
    for (let at = 0; at < serials.length; at += SERIAL_BYTES)
      if (this.has(serials, at)) found.push(Buffer.from(serials.subarray(at, at + SERIAL_BYTES)).toString("hex"));
    return found;
  }
}

/** The first six octets of the serial number at an offset. */
export function timeOf(serials: Uint8Array, at = 0): number {
  return (wordAt(serials, at) >>> 0) * 65_536 + ((serials[at + 4] as number) << 8) + (serials[at + 5] as number);
}

/** The 20 octets of a serial number of riprap's own, from its hexadecimal digits; undefined for any other. */
export function serialOctets(digits: string): Uint8Array | undefined {
  return digits.length === 2 * SERIAL_BYTES && /^[0-9a-f]*$/.test(digits) ? Buffer.from(digits, "hex") : undefined;
}

/** Undefined when no seed has a solution. */
function makeTables(source: SerialSetSource, revoked: Uint32Array): Form | undefined {
  const { serials } = source;
  const total = serials.length / SERIAL_BYTES;
  const width = widthFor(revoked.length, total);
  const first = width === 0 ? undefined : makeRibbon({ serials, chosen: revoked, width, agrees: () => true });
  if (first === undefined && width > 0) return undefined;
  const taken = indexesOf(
    total,
    (index) => source.isRevoked(index) || first === undefined || first.agrees(serials, index * SERIAL_BYTES),
  );
  if (taken.length === revoked.length) return { type: "tables", first, second: undefined };
  const second = makeRibbon({ serials, chosen: taken, width: 1, agrees: (index) => source.isRevoked(index) });
  return second === undefined ? undefined : { type: "tables", first, second };
}

function makeRibbon(table: Omit<Parameters<typeof Ribbon.make>[0], "seed" | "count">): Ribbon | undefined {
  for (let seed = 0; seed < SEEDS_MAX; seed++) {
    const made = Ribbon.make({ ...table, count: table.chosen.length, seed });
    if (made !== undefined) return made;
  }
  return undefined;
}

/** Bits of fingerprint with which both tables together are expected to be the shortest: a bit more for each revoked one halves the others that match. */
function widthFor(revoked: number, total: number): number {
  let [best, least] = [0, Number.POSITIVE_INFINITY];
  for (let width = 0; width <= WIDTH_MAX; width++) {
    const others = (total - revoked) / 2 ** width;
    // Fewer than one other: likely no second table at all.
    const bits = width * revoked + Math.min(1, others) * (revoked + others);
    if (bits < least) [best, least] = [width, bits];
  }
  return best;
}

function indexesOf(total: number, isOne: (index: number) => boolean): Uint32Array {
  const found: number[] = [];
  for (let index = 0; index < total; index++) if (isOne(index)) found.push(index);
  return Uint32Array.from(found);
}

function gather(serials: Uint8Array, chosen: Uint32Array): Uint8Array {
  const all = new Uint8Array(chosen.length * SERIAL_BYTES);
  for (const [i, index] of chosen.entries())
    all.set(serials.subarray(index * SERIAL_BYTES, (index + 1) * SERIAL_BYTES), i * SERIAL_BYTES);
  return all;
}

function checkSource(serials: Uint8Array, { from, until }: SerialSpan): void {
  if (serials.length % SERIAL_BYTES !== 0) throw new RangeError("a serial number is cut short");
  if (!(from >= 0 && from < until && until < 2 ** 48)) throw new RangeError("the span is empty");
  for (let at = 0; at < serials.length; at += SERIAL_BYTES) {
    const time = timeOf(serials, at);
    if (time < from || time >= until) throw new RangeError("a serial number is not of the span");
    if (at > 0 && compareAt(serials, at - SERIAL_BYTES, { other: serials, otherAt: at }) >= 0)
      throw new RangeError("the serial numbers are not in ascending order");
  }
}

function readList(bytes: Uint8Array, { count, span }: { count: number; span: SerialSpan }): Form {
  if (bytes.length !== count * SERIAL_BYTES) throw malformed("its list is of another length");
  try {
    checkSource(bytes, span);
  } catch (cause) {
    throw malformed((cause as Error).message, cause);
  }
  return { type: "listed", serials: Uint8Array.from(bytes) };
}

interface Shape {
  readonly count: number;
  readonly width: number;
  readonly seed: number;
}

function readTables(bytes: Uint8Array, { first, second }: { first: Shape; second: Shape }): Form {
  if (first.width > WIDTH_MAX) throw malformed(`a fingerprint has at most ${WIDTH_MAX} bits`);
  if (first.count === 0) throw malformed("its tables are of nothing");
  // Without the first table the second is of all; without a second the first has taken no other.
  if (second.count !== 0 && second.count <= first.count) throw malformed("its second table is of too few");
  if ((first.width === 0 && first.seed !== 0) || (second.count === 0 && second.seed !== 0))
    throw malformed("a table that is not there has a seed");
  const sizes = [first.width === 0 ? 0 : Ribbon.bytesOf(first), second.count === 0 ? 0 : Ribbon.bytesOf(second)];
  const [size = 0] = sizes;
  // Before anything is made of these numbers: what was sent is what they may cost.
  if (bytes.length !== sizes.reduce((sum, one) => sum + one, 0)) throw malformed("its tables are of another length");
  const read = (part: Uint8Array, shape: Shape): Ribbon => {
    const ribbon = Ribbon.read(part, shape);
    if (ribbon === undefined) throw malformed("the buckets of a table do not add up");
    return ribbon;
  };
  return {
    type: "tables",
    first: first.width === 0 ? undefined : read(bytes.subarray(0, size), first),
    second: second.count === 0 ? undefined : read(bytes.subarray(size), second),
  };
}

function isListed(list: Uint8Array, serials: Uint8Array, at: number): boolean {
  let [low, high] = [0, list.length / SERIAL_BYTES - 1];
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const order = compareAt(list, middle * SERIAL_BYTES, { other: serials, otherAt: at });
    if (order === 0) return true;
    if (order < 0) low = middle + 1;
    else high = middle - 1;
  }
  return false;
}

function compareAt(one: Uint8Array, at: number, { other, otherAt }: { other: Uint8Array; otherAt: number }): number {
  for (let i = 0; i < SERIAL_BYTES; i++) {
    const order = (one[at + i] as number) - (other[otherAt + i] as number);
    if (order !== 0) return order;
  }
  return 0;
}

function malformed(fact: string, cause?: unknown): RiprapError {
  return new RiprapError("serial_set_malformed", `Cannot read the set of serial numbers: ${fact}`, { cause });
}
