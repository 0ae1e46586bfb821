// What a set of statements comes to, as one hash over 256 buckets: two nodes compare it, and then only what differs. Knows keys and hashes, no statement.
import { hash } from "node:crypto";
import { malformed, OctetReader, OctetWriter } from "./octet.ts";

export const BUCKETS = 256;
/** By how the key of a statement begins. The last of them hold what each node says again and again: some of it is always on its way. */
const PASSING = { key: "presence/", first: 224, count: 32 };
/** Of their own, so that no other statements, whose names their authors choose, stand in the way of a revocation. */
const REVOKING = { key: "revocation/", first: 192, count: 32 };
const OTHERS = { key: "", first: 0, count: 192 };
const LASTING_BUCKETS = PASSING.first;
/** Of a bucket's SHA-256: a difference that an author could hide by some 2^32 tries would be his own words. */
const BUCKET_BYTES = 8;
const ROOT_BYTES = 16;
/** Heads in one answer, some 300 KiB. A bucket has fewer by chance; who chooses names can give one bucket as many as all that stands. */
export const HEADS_MAX = 8192;
/** What such a bucket has of an answer, whatever else differs: it is gone through in 64 windows at most. */
const WINDOW_HEADS = HEADS_MAX / 2;
const ID_BYTES = 16;
const FIRST_ID = "00".repeat(ID_BYTES);
const LAST_ID = "ff".repeat(ID_BYTES);

/** A whole state in some 2 KiB. */
export interface StateDigest {
  readonly count: number;
  /** 32 hexadecimal digits: equal means equal. */
  readonly root: string;
  readonly buckets: Uint8Array;
}

/** One statement as it is compared. */
export interface StatementHead {
  /** First 128 bits of the SHA-256 of its key, hexadecimal, but for the first byte, which is its bucket. */
  readonly id: string;
  /** Which of two is later: see rankOf. */
  readonly rank: number;
  /** First 128 bits of its hash, hexadecimal. */
  readonly hash: string;
}

export function statementId(key: string): string {
  const id = hash("sha256", key, "buffer").subarray(0, ID_BYTES);
  const [first = 0] = id;
  const among = [PASSING, REVOKING].find((buckets) => key.startsWith(buckets.key)) ?? OTHERS;
  id[0] = among.first + (first % among.count);
  return id.toString("hex");
}

/** The hashes of one set by id, with its digest kept up to date as they come and go. */
export class DigestTree {
  readonly #buckets: Map<string, StatementHead>[] = Array.from({ length: BUCKETS }, () => new Map());
  readonly #digests: (Uint8Array | undefined)[] = [];
  /** Heads of buckets that no answer holds, by id, from when one was asked for until it changes. */
  readonly #sorted: (readonly StatementHead[] | undefined)[] = [];
  #root: string | undefined;
  #lastingRoot: string | undefined;
  #count = 0;

  set(head: StatementHead): void {
    const index = bucketOf(head.id);
    const bucket = this.#buckets[index] as Map<string, StatementHead>;
    if (!bucket.has(head.id)) this.#count += 1;
    bucket.set(head.id, head);
    this.#forget(index);
  }

  remove(id: string): void {
    const index = bucketOf(id);
    if (this.#buckets[index]?.delete(id) !== true) return;
    this.#count -= 1;
    this.#forget(index);
  }

  get(id: string): StatementHead | undefined {
    return this.#buckets[bucketOf(id)]?.get(id);
  }

  /** All that there is of what a difference is about. */
  headsOf({ buckets, window }: Pick<Difference, "buckets" | "window">): StatementHead[] {
    const whole = buckets.flatMap((bucket) => [...this.#headsIn(bucket)]);
    if (window === undefined) return whole;
    const isWithin = ({ id }: StatementHead) => id >= window.from && id <= window.until;
    return [...whole, ...[...this.#headsIn(bucketOf(window.from))].filter(isWithin)];
  }

  /**
   * What there is where the other's digest differs, as much as one answer holds: whole buckets from any of them on, so that none that never comes to
   * be the same stands before the others for good; then a window of one that no answer holds. `random` gives 0 up to 1.
   */
  difference(other: StateDigest, random: () => number): Difference {
    const differing = this.differing(other);
    const isFull = (bucket: number) => this.#sizeOf(bucket) > HEADS_MAX;
    const full = differing.filter(isFull);
    const turn = Math.floor(random() * differing.length);
    let room = HEADS_MAX - (full.length > 0 ? WINDOW_HEADS : 0);
    const buckets = [...differing.slice(turn), ...differing.slice(0, turn)].filter((bucket) => {
      if (isFull(bucket) || this.#sizeOf(bucket) > room) return false;
      room -= this.#sizeOf(bucket);
      return true;
    });
    const drawn = full[Math.floor(random() * full.length)];
    const window = drawn === undefined ? undefined : this.#drawWindow(drawn, room + WINDOW_HEADS, random);
    return { buckets, window, heads: this.headsOf({ buckets, window }) };
  }

  digest(): StateDigest {
    const buckets = this.#firstBuckets(BUCKETS);
    this.#root ??= rootOf(buckets);
    return { count: this.#count, root: this.#root, buckets };
  }

  /** 32 hexadecimal digits. */
  root(): string {
    return this.#root ?? this.digest().root;
  }

  /** The same of what lasts: without what each node says again and again. */
  lastingRoot(): string {
    this.#lastingRoot ??= rootOf(this.#firstBuckets(LASTING_BUCKETS));
    return this.#lastingRoot;
  }

  /** Buckets in which the other one differs, least first. */
  differing(other: StateDigest): number[] {
    const mine = this.digest().buckets;
    const isSame = (index: number) => {
      const [from, to] = [index * BUCKET_BYTES, (index + 1) * BUCKET_BYTES];
      return Buffer.compare(mine.subarray(from, to), other.buckets.subarray(from, to)) === 0;
    };
    return Array.from({ length: BUCKETS }, (_, index) => index).filter((index) => !isSame(index));
  }

  /** Of `room` heads at most. Together the windows of a bucket leave out no id: each ends where the next begins, or with the bucket. */
  #drawWindow(bucket: number, room: number, random: () => number): IdWindow {
    this.#sorted[bucket] ??= [...this.#headsIn(bucket)].sort((a, b) => (a.id < b.id ? -1 : 1));
    const heads = this.#sorted[bucket];
    const step = room - 1;
    const start = step * Math.floor(random() * Math.ceil(heads.length / step));
    const first = bucket.toString(16).padStart(2, "0");
    return {
      from: start === 0 ? first + FIRST_ID.slice(2) : (heads[start] as StatementHead).id,
      until: heads[start + step]?.id ?? first + LAST_ID.slice(2),
    };
  }

  #headsIn(bucket: number): Iterable<StatementHead> {
    return this.#buckets[bucket]?.values() ?? [];
  }

  #sizeOf(bucket: number): number {
    return this.#buckets[bucket]?.size ?? 0;
  }

  #firstBuckets(count: number): Uint8Array {
    return Uint8Array.from(Buffer.concat(Array.from({ length: count }, (_, index) => this.#bucketDigest(index))));
  }

  #forget(bucket: number): void {
    this.#digests[bucket] = undefined;
    this.#sorted[bucket] = undefined;
    this.#root = undefined;
    if (bucket < LASTING_BUCKETS) this.#lastingRoot = undefined;
  }

  #bucketDigest(index: number): Uint8Array {
    const known = this.#digests[index];
    if (known !== undefined) return known;
    const bucket = this.#buckets[index] as Map<string, StatementHead>;
    // Sorted, because the order in which they came says nothing.
    const text = [...bucket.values()]
      .map((head) => head.hash)
      .sort()
      .join("");
    const digest = hash("sha256", text, "buffer").subarray(0, BUCKET_BYTES);
    this.#digests[index] = digest;
    return digest;
  }
}

function rootOf(buckets: Uint8Array): string {
  return hash("sha256", buckets, "hex").slice(0, 2 * ROOT_BYTES);
}

function bucketOf(id: string): number {
  return Number.parseInt(id.slice(0, 2), 16);
}

export function writeDigest(digest: StateDigest): Uint8Array {
  return new OctetWriter().u32(digest.count).raw(Buffer.from(digest.root, "hex")).raw(digest.buckets).end();
}

/** Throws RiprapError `octets_malformed`. */
export function parseDigest(bytes: Uint8Array): StateDigest {
  const reader = new OctetReader(bytes);
  const count = reader.u32();
  const root = reader.hex(ROOT_BYTES);
  const buckets = reader.raw(BUCKETS * BUCKET_BYTES);
  reader.end();
  return { count, root, buckets };
}

/** Ids of one bucket, both ends among them. */
export interface IdWindow {
  readonly from: string;
  readonly until: string;
}

/** All that a node has in these buckets and in this window; what else differs waits for another answer. */
export interface Difference {
  readonly buckets: readonly number[];
  readonly window?: IdWindow | undefined;
  readonly heads: readonly StatementHead[];
}

export function writeDifference({ buckets, window, heads }: Difference): Uint8Array {
  const writer = new OctetWriter().u16(buckets.length);
  for (const bucket of buckets) writer.u8(bucket);
  writer.u16(window === undefined ? 0 : 1);
  if (window !== undefined) writer.raw(Buffer.from(window.from + window.until, "hex"));
  writer.u16(heads.length);
  for (const head of heads) {
    writer.raw(Buffer.from(head.id, "hex")).u48(head.rank).raw(Buffer.from(head.hash, "hex"));
  }
  return writer.end();
}

/** Throws RiprapError `octets_malformed`. */
export function parseDifference(bytes: Uint8Array): Difference {
  const reader = new OctetReader(bytes);
  const buckets = Array.from({ length: reader.count16(BUCKETS) }, () => reader.u8());
  const window = reader.count16(1) === 0 ? undefined : { from: reader.hex(ID_BYTES), until: reader.hex(ID_BYTES) };
  const heads = Array.from({ length: reader.count16(HEADS_MAX) }, () => ({
    id: reader.hex(ID_BYTES),
    rank: reader.u48(),
    hash: reader.hex(ID_BYTES),
  }));
  reader.end();
  const difference = { buckets, window, heads };
  const fault = differenceFault(difference);
  if (fault !== undefined) throw malformed(fault);
  return difference;
}

function differenceFault({ buckets, window, heads }: Difference): string | undefined {
  const told = new Set(buckets);
  if (told.size < buckets.length) return "it tells of a bucket twice";
  if (window !== undefined) {
    const { from, until } = window;
    if (bucketOf(from) !== bucketOf(until) || from > until) return "its window is none";
    if (told.has(bucketOf(from))) return "its window is of a bucket that it tells of as a whole";
  }
  const isOutside = ({ id }: StatementHead) =>
    !told.has(bucketOf(id)) && (window === undefined || id < window.from || id > window.until);
  return heads.some(isOutside) ? "it has a head of what it does not tell of" : undefined;
}

/** Ids of statements that are wanted. */
export function writeIds(ids: readonly string[]): Uint8Array {
  const writer = new OctetWriter().u16(ids.length);
  for (const id of ids) writer.raw(Buffer.from(id, "hex"));
  return writer.end();
}

/** Throws RiprapError `octets_malformed`. */
export function parseIds(bytes: Uint8Array): string[] {
  const reader = new OctetReader(bytes);
  const ids = Array.from({ length: reader.count16(HEADS_MAX) }, () => reader.hex(ID_BYTES));
  reader.end();
  return ids;
}
