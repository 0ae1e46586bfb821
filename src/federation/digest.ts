// What a set of statements comes to, as one hash over 256 buckets: two nodes compare it, and then only what differs. Knows keys and hashes, no statement.
import { hash } from "node:crypto";
import { OctetReader, OctetWriter } from "./octet.ts";

export const BUCKETS = 256;
/** Of a bucket's SHA-256: a difference that an author could hide by some 2^32 tries would be his own words. */
const BUCKET_BYTES = 8;
const ROOT_BYTES = 16;
/** Heads in one answer: a bucket has fewer even where a fleet holds a million statements. */
export const HEADS_MAX = 8192;
const ID_BYTES = 16;

/** A whole state in some 2 KiB. */
export interface StateDigest {
  readonly count: number;
  /** 32 hexadecimal digits: equal means equal. */
  readonly root: string;
  readonly buckets: Uint8Array;
}

/** One statement as it is compared. */
export interface StatementHead {
  /** First 128 bits of the SHA-256 of its key, hexadecimal; the first byte is its bucket. */
  readonly id: string;
  /** Which of two is later: see rankOf. */
  readonly rank: number;
  /** First 128 bits of its hash, hexadecimal. */
  readonly hash: string;
}

export function statementId(key: string): string {
  return hash("sha256", key, "hex").slice(0, 2 * ID_BYTES);
}

/** The hashes of one set by id, with its digest kept up to date as they come and go. */
export class DigestTree {
  readonly #buckets: Map<string, StatementHead>[] = Array.from({ length: BUCKETS }, () => new Map());
  readonly #digests: (Uint8Array | undefined)[] = [];
  #root: string | undefined;
  #count = 0;

  set(head: StatementHead): void {
    const index = bucketOf(head.id);
    const bucket = this.#buckets[index] as Map<string, StatementHead>;
    if (!bucket.has(head.id)) this.#count += 1;
    bucket.set(head.id, head);
    this.#digests[index] = undefined;
    this.#root = undefined;
  }

  remove(id: string): void {
    const index = bucketOf(id);
    if (this.#buckets[index]?.delete(id) !== true) return;
    this.#count -= 1;
    this.#digests[index] = undefined;
    this.#root = undefined;
  }

  get(id: string): StatementHead | undefined {
    return this.#buckets[bucketOf(id)]?.get(id);
  }

  heads(bucket: number): Iterable<StatementHead> {
    return this.#buckets[bucket]?.values() ?? [];
  }

  digest(): StateDigest {
    const buckets = Buffer.concat(this.#buckets.map((_, index) => this.#bucketDigest(index)));
    this.#root ??= hash("sha256", buckets, "hex").slice(0, 2 * ROOT_BYTES);
    return { count: this.#count, root: this.#root, buckets: new Uint8Array(buckets) };
  }

  /** 32 hexadecimal digits. */
  root(): string {
    return this.#root ?? this.digest().root;
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

/** All that a node has in these buckets; further buckets that differ wait for the next round. */
export interface Difference {
  readonly buckets: readonly number[];
  readonly heads: readonly StatementHead[];
}

export function writeDifference({ buckets, heads }: Difference): Uint8Array {
  const writer = new OctetWriter().u16(buckets.length);
  for (const bucket of buckets) writer.u8(bucket);
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
  const heads = Array.from({ length: reader.count16(HEADS_MAX) }, () => ({
    id: reader.hex(ID_BYTES),
    rank: reader.u48(),
    hash: reader.hex(ID_BYTES),
  }));
  reader.end();
  return { buckets, heads };
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
