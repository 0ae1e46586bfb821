// A table that knows of each of its serial numbers whether it agrees with the number's own fingerprint, and holds none of them: a banded system of linear equations over GF(2), solved. What it says of other numbers is chance.

import { FINGERPRINT, HASH_WORDS, hashSerial, PLACE, SERIAL_BYTES } from "./serial_hash.ts";

/** Columns that an equation reaches over, in words of 32: a wider band fails less and is read longer. */
const BAND_WORDS = 4;
const BAND = 32 * BAND_WORDS;
/**
 * An equation begins this far before its share of the columns. As many equations then wait for a column at any place: with none waiting columns are
 * wasted, with a band's width of them equations fail.
 */
const LEAD = BAND / 2;
/** Numbers in one bucket, on the average. The sizes of buckets are written down, so that the number that wait never drifts by more than a bucket's chance. */
const BUCKET = 1024;
/** By how much the size of a bucket may be off the average: an octet, four times the standard deviation. */
const DEVIATION_MAX = 127;
/** Columns more than equations: each halves the chance that the last ones fail. */
const SPARE = 8;
/** One false answer in a million: more was never the shortest for what fits a statement. */
export const WIDTH_MAX = 20;

/** What a ribbon's octets are read by. */
export interface RibbonShape {
  /** How many numbers it was made of. */
  readonly count: number;
  /** Bits of fingerprint. */
  readonly width: number;
  readonly seed: number;
}

export interface RibbonSource extends RibbonShape {
  /** Serial numbers one after the other. */
  readonly serials: Uint8Array;
  /** Which of them, by their index. */
  readonly chosen: Uint32Array;
  /** Whether the number with this index is to agree. */
  agrees(index: number): boolean;
}

export class Ribbon {
  readonly #shape: RibbonShape;
  /** Size of each bucket, and the column where its share begins. */
  readonly #sizes: Int32Array;
  readonly #offsets: Int32Array;
  /** The solution: a plane for each bit of the fingerprint, one after the other, `stride` words apart. */
  readonly #table: Int32Array;
  readonly #stride: number;
  readonly #mask: number;
  readonly #hash = new Int32Array(HASH_WORDS);

  private constructor(shape: RibbonShape, sizes: Int32Array, table: Int32Array) {
    this.#shape = shape;
    this.#sizes = sizes;
    this.#offsets = offsetsOf(sizes);
    this.#table = table;
    this.#stride = wordsOf(columnsOf(shape.count));
    this.#mask = maskOf(shape.width);
  }

  /** Undefined when the equations of this seed have no solution: try the next one. */
  static make(source: RibbonSource): Ribbon | undefined {
    const { serials, chosen, count, width, seed } = source;
    const hash = new Int32Array(HASH_WORDS);
    const sizes = new Int32Array(bucketsOf(count));
    for (const index of chosen) {
      hashSerial(serials, index * SERIAL_BYTES, seed, hash);
      const bucket = placeOf(hash, sizes.length) >>> 20;
      sizes[bucket] = (sizes[bucket] as number) + 1;
    }
    if (deviationsOf(sizes, count) === undefined) return undefined;
    const offsets = offsetsOf(sizes);
    const starts = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      hashSerial(serials, (chosen[i] as number) * SERIAL_BYTES, seed, hash);
      starts[i] = startOf(hash, sizes, offsets);
    }
    const system = new BandedSystem(columnsOf(count), width);
    // From the left: what stands then is never more than a band away.
    for (const i of orderOf(starts, columnsOf(count))) {
      const index = chosen[i] as number;
      hashSerial(serials, index * SERIAL_BYTES, seed, hash);
      const value = (hash[FINGERPRINT] as number) ^ (source.agrees(index) ? 0 : 1);
      if (!system.add(hash, { start: starts[i] as number, value: value & maskOf(width) })) return undefined;
    }
    return new Ribbon({ count, width, seed }, sizes, system.solve());
  }

  /** How many octets one of this shape has. */
  static bytesOf({ count, width }: RibbonShape): number {
    return bucketsOf(count) - 1 + width * (columnsOf(count) / 8);
  }

  /** What write() wrote; `bytes` has the length that bytesOf says. Undefined when the sizes of its buckets cannot be. */
  static read(bytes: Uint8Array, shape: RibbonShape): Ribbon | undefined {
    const buckets = bucketsOf(shape.count);
    const sizes = sizesOf(bytes.subarray(0, buckets - 1), shape.count);
    if (sizes === undefined) return undefined;
    const plane = columnsOf(shape.count) / 8;
    const stride = wordsOf(8 * plane);
    const table = newTable(shape.width, stride);
    for (let bit = 0; bit < shape.width; bit++) {
      const from = buckets - 1 + bit * plane;
      readPlane(bytes.subarray(from, from + plane), table.subarray(bit * stride));
    }
    return new Ribbon(shape, sizes, table);
  }

  write(): Uint8Array {
    const { count, width } = this.#shape;
    const deviations = Uint8Array.from(deviationsOf(this.#sizes, count) ?? [], (deviation) => deviation & 0xff);
    const plane = columnsOf(count) / 8;
    const planes = Array.from({ length: width }, (_, bit) =>
      writePlane(this.#table.subarray(bit * this.#stride), plane),
    );
    return Uint8Array.from(Buffer.concat([deviations, ...planes]));
  }

  get shape(): RibbonShape {
    return this.#shape;
  }

  /** Whether what is said of the serial number at this offset agrees with its fingerprint. */
  agrees(serials: Uint8Array, at: number): boolean {
    const hash = this.#hash;
    hashSerial(serials, at, this.#shape.seed, hash);
    const start = startOf(hash, this.#sizes, this.#offsets);
    const word = start >>> 5;
    const shift = start & 31;
    const [h0, h1, h2, h3] = [hash[0] as number, hash[1] as number, hash[2] as number, hash[3] as number];
    // A shift by 32 is none in JavaScript: the last place is shifted apart.
    const rest = 31 - shift;
    const c0 = h0 << shift;
    const c1 = (h1 << shift) | ((h0 >>> 1) >>> rest);
    const c2 = (h2 << shift) | ((h1 >>> 1) >>> rest);
    const c3 = (h3 << shift) | ((h2 >>> 1) >>> rest);
    const c4 = (h3 >>> 1) >>> rest;
    const table = this.#table;
    const stride = this.#stride;
    const end = table.length;
    let wanted = (hash[FINGERPRINT] as number) & this.#mask;
    // Two planes at a time: whether one alone ends it is a coin toss, which a processor guesses wrong every other time.
    for (let i = word; i < end; i += 2 * stride) {
      const j = i + stride;
      const one =
        (c0 & (table[i] as number)) ^
        (c1 & (table[i + 1] as number)) ^
        (c2 & (table[i + 2] as number)) ^
        (c3 & (table[i + 3] as number)) ^
        (c4 & (table[i + 4] as number));
      const two =
        (c0 & (table[j] as number)) ^
        (c1 & (table[j + 1] as number)) ^
        (c2 & (table[j + 2] as number)) ^
        (c3 & (table[j + 3] as number)) ^
        (c4 & (table[j + 4] as number));
      if (((parityOf(one) | (parityOf(two) << 1)) ^ wanted) & 3) return false;
      wanted >>= 2;
    }
    return true;
  }
}

interface Equation {
  readonly start: number;
  readonly value: number;
}

/** Gaussian elimination under way: at most one equation begins at each column. */
class BandedSystem {
  readonly #columns: number;
  readonly #width: number;
  readonly #rows: Int32Array;
  readonly #values: Int32Array;

  constructor(columns: number, width: number) {
    this.#columns = columns;
    this.#width = width;
    this.#rows = new Int32Array(columns * BAND_WORDS);
    this.#values = new Int32Array(columns);
  }

  /** False when it contradicts those before it. */
  add(coefficients: Int32Array, { start, value }: Equation): boolean {
    const rows = this.#rows;
    // Nothing beyond the last column.
    const left = this.#columns - start;
    let r0 = (coefficients[0] as number) & maskOf(left);
    let r1 = (coefficients[1] as number) & maskOf(left - 32);
    let r2 = (coefficients[2] as number) & maskOf(left - 64);
    let r3 = (coefficients[3] as number) & maskOf(left - 96);
    let column = start;
    let right = value;
    // Nothing left of it: it said what others say, or the opposite.
    while ((r0 | r1 | r2 | r3) !== 0) {
      if (r0 === 0) {
        [r0, r1, r2, r3] = [r1, r2, r3, 0];
        column += 32;
        continue;
      }
      const zeros = 31 - Math.clz32(r0 & -r0);
      const rest = 31 - zeros;
      // A shift by 32 is none in JavaScript: the last place is shifted apart.
      r0 = (r0 >>> zeros) | ((r1 << 1) << rest);
      r1 = (r1 >>> zeros) | ((r2 << 1) << rest);
      r2 = (r2 >>> zeros) | ((r3 << 1) << rest);
      r3 >>>= zeros;
      column += zeros;
      const at = column * BAND_WORDS;
      if (rows[at] === 0) {
        rows.set([r0, r1, r2, r3], at);
        this.#values[column] = right;
        return true;
      }
      r0 ^= rows[at] as number;
      r1 ^= rows[at + 1] as number;
      r2 ^= rows[at + 2] as number;
      r3 ^= rows[at + 3] as number;
      right ^= this.#values[column] as number;
    }
    return right === 0;
  }

  /** The planes in one table, from the last column back; columns at which none begins are 0. */
  solve(): Int32Array {
    const stride = wordsOf(this.#columns);
    const table = newTable(this.#width, stride);
    const planes = Array.from({ length: this.#width }, (_, bit) => table.subarray(bit * stride, (bit + 1) * stride));
    for (let column = this.#columns - 1; column >= 0; column--) {
      const at = column * BAND_WORDS;
      if (this.#rows[at] === 0) continue;
      const value = this.#values[column] as number;
      for (const [bit, plane] of planes.entries()) {
        const one = (parityOf(this.#product(at, column, plane)) ^ (value >>> bit)) & 1;
        plane[column >>> 5] = (plane[column >>> 5] as number) | (one << (column & 31));
      }
    }
    return table;
  }

  #product(at: number, column: number, plane: Int32Array): number {
    const word = column >>> 5;
    const shift = column & 31;
    let bits = 0;
    for (let i = 0; i < BAND_WORDS; i++) {
      const low = (plane[word + i] as number) >>> shift;
      const high = ((plane[word + i + 1] as number) << 1) << (31 - shift);
      bits ^= (this.#rows[at + i] as number) & (low | high);
    }
    return bits;
  }
}

/** The lowest bits of a word, none for a number below 1. */
function maskOf(bits: number): number {
  return bits >= 32 ? -1 : bits <= 0 ? 0 : 2 ** bits - 1;
}

function parityOf(bits: number): number {
  let folded = bits ^ (bits >>> 16);
  folded ^= folded >>> 8;
  folded ^= folded >>> 4;
  folded ^= folded >>> 2;
  return (folded ^ (folded >>> 1)) & 1;
}

/** A whole number of octets. */
function columnsOf(count: number): number {
  return 8 * Math.ceil((count + SPARE) / 8);
}

/** A lookup reads one word more than a band, wherever it begins. */
function wordsOf(columns: number): number {
  return (columns >>> 5) + BAND_WORDS + 2;
}

/** Of an even number of planes: the last one may be of nothing. */
function newTable(width: number, stride: number): Int32Array {
  return new Int32Array((width + (width & 1)) * stride);
}

function bucketsOf(count: number): number {
  return Math.max(1, Math.round(count / BUCKET));
}

/** The bucket, and what is left of the place for the column inside it: twenty bits, so that a product with either is one of whole numbers below 2^31. */
function placeOf(hash: Int32Array, buckets: number): number {
  return Math.imul((hash[PLACE] as number) >>> 12, buckets);
}

function startOf(hash: Int32Array, sizes: Int32Array, offsets: Int32Array): number {
  const place = placeOf(hash, sizes.length);
  const bucket = place >>> 20;
  const column = (offsets[bucket] as number) + (Math.imul(place & 0xfffff, sizes[bucket] as number) >>> 20);
  return column > LEAD ? column - LEAD : 0;
}

function offsetsOf(sizes: Int32Array): Int32Array {
  const offsets = new Int32Array(sizes.length);
  for (let i = 1; i < sizes.length; i++) offsets[i] = (offsets[i - 1] as number) + (sizes[i - 1] as number);
  return offsets;
}

/** Of every bucket but the last, which has the rest. Undefined when one does not fit an octet. */
function deviationsOf(sizes: Int32Array, count: number): readonly number[] | undefined {
  const average = Math.floor(count / sizes.length);
  const deviations = [...sizes.subarray(0, -1)].map((size) => size - average);
  return deviations.every((deviation) => Math.abs(deviation) <= DEVIATION_MAX) ? deviations : undefined;
}

function sizesOf(deviations: Uint8Array, count: number): Int32Array | undefined {
  const average = Math.floor(count / (deviations.length + 1));
  const sizes = [...deviations].map((octet) => average + ((octet << 24) >> 24));
  const rest = count - sizes.reduce((sum, size) => sum + size, 0);
  return rest >= 0 && sizes.every((size) => size >= 0) ? Int32Array.of(...sizes, rest) : undefined;
}

/** Indexes in the order of their columns. */
function orderOf(starts: Uint32Array, columns: number): Uint32Array {
  const next = new Uint32Array(columns + 1);
  for (const start of starts) next[start + 1] = (next[start + 1] as number) + 1;
  for (let i = 1; i <= columns; i++) next[i] = (next[i] as number) + (next[i - 1] as number);
  const order = new Uint32Array(starts.length);
  for (const [i, start] of starts.entries()) {
    const at = next[start] as number;
    order[at] = i;
    next[start] = at + 1;
  }
  return order;
}

function readPlane(bytes: Uint8Array, words: Int32Array): void {
  for (const [i, octet] of bytes.entries()) words[i >>> 2] = (words[i >>> 2] as number) | (octet << (8 * (i & 3)));
}

function writePlane(words: Int32Array, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => ((words[i >>> 2] as number) >>> (8 * (i & 3))) & 0xff);
}
