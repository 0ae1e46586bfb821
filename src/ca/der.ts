// Distinguished Encoding Rules (X.690), as far as certificates need them. The reader takes nothing that DER does not allow; the writer makes nothing else.
import { RiprapError } from "../error.ts";

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** A certificate nests 8 deep or so; past this someone is spending our stack. */
const DEPTH_MAX = 24;
/** Three length octets: 16 MiB, above every bound that callers set. */
const LENGTH_OCTETS_MAX = 3;

/** KeyUsage has nine bits: one octet of padding and two of bits. */
const NAMED_BITS_OCTETS_MAX = 3;

/** One element. `bytes` is the whole of it, `content` what follows tag and length; both are views. */
export interface DerElement {
  readonly tag: number;
  readonly bytes: Uint8Array;
  readonly content: Uint8Array;
}

/** Reads the elements of one sequence in order. Every method throws RiprapError `der_malformed` on what DER forbids. */
export class DerReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** The tag of the next element, or undefined at the end. */
  peek(): number | undefined {
    return this.#bytes[this.#at];
  }

  next(expected?: number): DerElement {
    const start = this.#at;
    const tag = this.#octet();
    if ((tag & 0x1f) === 0x1f) throw malformed("a tag number above 30");
    if (tag === 0) throw malformed("an end-of-contents tag");
    if (expected !== undefined && tag !== expected)
      throw malformed(`tag 0x${hex(tag)} where 0x${hex(expected)} belongs`);
    const length = this.#length();
    const body = this.#at;
    if (length > this.#bytes.length - body) throw malformed("an element longer than what holds it");
    this.#at = body + length;
    return { tag, bytes: this.#bytes.subarray(start, this.#at), content: this.#bytes.subarray(body, this.#at) };
  }

  /** The next element if it has this tag. */
  optional(tag: number): DerElement | undefined {
    return this.peek() === tag ? this.next(tag) : undefined;
  }

  /** Opens the next element, which must have this tag. */
  enter(tag: number): DerReader {
    return new DerReader(this.next(tag).content);
  }

  /** Refuses what is left over. */
  end(): void {
    if (!this.done) throw malformed("bytes after the last element");
  }

  #octet(): number {
    const octet = this.#bytes[this.#at];
    if (octet === undefined) throw malformed("an end in the middle of an element");
    this.#at += 1;
    return octet;
  }

  #length(): number {
    const first = this.#octet();
    if (first < 0x80) return first;
    const octets = first & 0x7f;
    if (octets === 0) throw malformed("an indefinite length");
    if (octets > LENGTH_OCTETS_MAX) throw malformed("a length of more than three octets");
    let length = 0;
    for (let i = 0; i < octets; i += 1) length = length * 256 + this.#octet();
    if (length < 0x80 || length < 256 ** (octets - 1)) throw malformed("a length that is not the shortest");
    return length;
  }
}

/** Checks that the bytes are exactly one element of `tag`, and everything constructed inside it well-formed. Returns its content's reader. */
export function readDer(bytes: Uint8Array, tag: number): DerReader {
  const reader = new DerReader(bytes);
  const element = reader.next(tag);
  reader.end();
  checkTree(element, 0);
  return new DerReader(element.content);
}

function checkTree(element: DerElement, depth: number): void {
  if (depth > DEPTH_MAX) throw malformed(`more than ${DEPTH_MAX} levels`);
  if (element.tag === TAG.integer) checkInteger(element.content);
  if (element.tag === TAG.boolean) readBoolean(element);
  if (element.tag === TAG.null && element.content.length !== 0) throw malformed("a NULL with content");
  if ((element.tag & 0x20) === 0) return;
  for (const reader = new DerReader(element.content); !reader.done; ) checkTree(reader.next(), depth + 1);
}

export function readBoolean(element: DerElement): boolean {
  const value = element.content[0];
  if (element.content.length !== 1 || (value !== 0 && value !== 0xff))
    throw malformed("a BOOLEAN that is neither 00 nor FF");
  return value === 0xff;
}

function checkInteger(content: Uint8Array): void {
  const [first, second] = content;
  if (first === undefined) throw malformed("an INTEGER without content");
  if (second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) {
    throw malformed("an INTEGER that is not the shortest");
  }
}

/** A small non-negative INTEGER, such as a version or a path length. */
export function readSmallInteger(element: DerElement): number {
  checkInteger(element.content);
  if (element.content.length > 3 || (element.content[0] as number) >= 0x80) throw malformed("an INTEGER out of range");
  return element.content.reduce((value, octet) => value * 256 + octet, 0);
}

/** The bits of a named-bit list (RFC 5280 KeyUsage): bit 0 is the highest bit of the first octet. */
export function readNamedBits(element: DerElement): ReadonlySet<number> {
  if (element.content.length > NAMED_BITS_OCTETS_MAX) throw malformed("a named-bit list that is too long");
  const [unused, ...octets] = element.content;
  const last = octets.at(-1);
  if (unused === undefined || unused > 7 || (last === undefined && unused !== 0))
    throw malformed("a BIT STRING with wrong padding");
  if (last !== undefined && (last === 0 || (last & ((1 << (unused + 1)) - 1)) !== 1 << unused)) {
    throw malformed("a named-bit list with trailing zero bits");
  }
  const bits = new Set<number>();
  octets.forEach((octet, i) => {
    for (let bit = 0; bit < 8; bit += 1) if ((octet & (0x80 >> bit)) !== 0) bits.add(i * 8 + bit);
  });
  return bits;
}

/** A BIT STRING of whole octets: a key or a signature. */
export function readBitString(element: DerElement): Uint8Array {
  if (element.content[0] !== 0) throw malformed("a BIT STRING that does not end on an octet");
  return element.content.subarray(1);
}

/** Dotted text of an OBJECT IDENTIFIER. */
export function readOid(element: DerElement): string {
  const { content } = element;
  if (content.length === 0 || content.length > 32) throw malformed("an OBJECT IDENTIFIER of a wrong length");
  const arcs: number[] = [];
  let arc = 0;
  let fresh = true;
  for (const octet of content) {
    if (fresh && octet === 0x80) throw malformed("an OBJECT IDENTIFIER that is not the shortest");
    arc = arc * 128 + (octet & 0x7f);
    if (arc > 0xffff_ffff) throw malformed("an OBJECT IDENTIFIER with an arc out of range");
    fresh = (octet & 0x80) === 0;
    if (!fresh) continue;
    arcs.push(arc);
    arc = 0;
  }
  if (!fresh) throw malformed("an OBJECT IDENTIFIER that ends in the middle of an arc");
  const [first = 0, ...rest] = arcs;
  const top = Math.min(Math.floor(first / 40), 2);
  return [top, first - top * 40, ...rest].join(".");
}

/** Milliseconds since the epoch of a UTCTime or GeneralizedTime as RFC 5280 section 4.1.2.5 wants them: whole seconds, `Z`, the right one of the two. */
export function readTime(element: DerElement): number {
  const text = readAscii(element.content);
  const utc = element.tag === TAG.utcTime;
  if (!(utc ? /^\d{12}Z$/ : /^\d{14}Z$/).test(text) || (!utc && element.tag !== TAG.generalizedTime)) {
    throw malformed("a time that is not in whole seconds of UTC");
  }
  const digits = utc ? (Number(text.slice(0, 2)) >= 50 ? "19" : "20") + text : text;
  const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(
    digits,
  ) as RegExpExecArray;
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`;
  const time = Date.parse(iso);
  if (Number.isNaN(time) || new Date(time).toISOString() !== iso) throw malformed("a time that does not exist");
  if (!utc && Number(year) < 2050) throw malformed("a GeneralizedTime before 2050");
  return time;
}

/** The octets as ASCII; throws when one is above 0x7E or a control character. */
export function readAscii(content: Uint8Array): string {
  for (const octet of content)
    if (octet < 0x20 || octet > 0x7e) throw malformed("a string with a character outside printable ASCII");
  return Buffer.from(content.buffer, content.byteOffset, content.length).toString("latin1");
}

/** Tag, length and the joined contents. */
export function der(tag: number, ...contents: readonly Uint8Array[]): Uint8Array {
  const length = contents.reduce((sum, content) => sum + content.length, 0);
  const header = [tag, ...derLength(length)];
  const bytes = new Uint8Array(header.length + length);
  bytes.set(header);
  let at = header.length;
  for (const content of contents) {
    bytes.set(content, at);
    at += content.length;
  }
  return bytes;
}

function derLength(length: number): number[] {
  if (length < 0x80) return [length];
  if (length < 0x100) return [0x81, length];
  if (length < 0x1_0000) return [0x82, length >> 8, length & 0xff];
  if (length < 0x100_0000) return [0x83, length >> 16, (length >> 8) & 0xff, length & 0xff];
  throw new RangeError(`nothing of a CA holds an element of ${length} bytes`);
}

export function derOid(dotted: string): Uint8Array {
  const [top = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const octets: number[] = [];
  for (const arc of [top * 40 + second, ...rest]) {
    const group = [arc & 0x7f];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) group.unshift((left & 0x7f) | 0x80);
    octets.push(...group);
  }
  return der(TAG.oid, Uint8Array.from(octets));
}

/** UTCTime up to 2049, GeneralizedTime from 2050 (RFC 5280 section 4.1.2.5). */
export function derTime(ms: number): Uint8Array {
  const digits = `${new Date(ms).toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`;
  return digits < "2050" ? der(TAG.utcTime, ascii(digits.slice(2))) : der(TAG.generalizedTime, ascii(digits));
}

export function ascii(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, "latin1"));
}

function hex(octet: number): string {
  return octet.toString(16).padStart(2, "0");
}

function malformed(what: string): RiprapError {
  return new RiprapError("der_malformed", `Cannot read DER: it holds ${what}`);
}
