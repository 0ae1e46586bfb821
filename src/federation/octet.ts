// Writes and reads the octets that fleet messages are made of: fixed-width numbers, and fields with their length before them. Knows no message.
import { RiprapError } from "../error.ts";

/** Numbers of 48 bits hold milliseconds and counters, and a double holds them exactly. */
export const U48_MAX = 0xffff_ffff_ffff;

/** Every field has its length before it or is of fixed width, so that no two lists of fields give the same octets. */
export class OctetWriter {
  readonly #parts: Uint8Array[] = [];

  u8(value: number): this {
    return this.#number(value, 1);
  }

  u16(value: number): this {
    return this.#number(value, 2);
  }

  u32(value: number): this {
    return this.#number(value, 4);
  }

  u48(value: number): this {
    return this.#number(value, 6);
  }

  raw(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    return this;
  }

  bytes8(bytes: Uint8Array): this {
    return this.u8(bytes.length).raw(bytes);
  }

  bytes16(bytes: Uint8Array): this {
    return this.u16(bytes.length).raw(bytes);
  }

  bytes32(bytes: Uint8Array): this {
    return this.u32(bytes.length).raw(bytes);
  }

  text8(text: string): this {
    return this.bytes8(Buffer.from(text));
  }

  text16(text: string): this {
    return this.bytes16(Buffer.from(text));
  }

  end(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#parts));
  }

  #number(value: number, width: number): this {
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * width)) {
      throw new RangeError(`${value} is no whole number of ${8 * width} bits`);
    }
    const bytes = Buffer.alloc(width);
    bytes.writeUIntBE(value, 0, width);
    this.#parts.push(bytes);
    return this;
  }
}

/** Reads what OctetWriter wrote. Throws RiprapError `octets_malformed` for anything cut short, left over or not UTF-8. */
export class OctetReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Octets read so far. */
  get at(): number {
    return this.#at;
  }

  u8(): number {
    return this.#number(1);
  }

  u16(): number {
    return this.#number(2);
  }

  u32(): number {
    return this.#number(4);
  }

  u48(): number {
    return this.#number(6);
  }

  /** `length` octets as hexadecimal digits. */
  hex(length: number): string {
    return Buffer.from(this.raw(length)).toString("hex");
  }

  /** A copy of its own: the message that it came in may be reused. */
  raw(length: number): Uint8Array {
    if (length > this.#bytes.length - this.#at) throw malformed("it ends in the middle of a field");
    const from = this.#at;
    this.#at += length;
    return new Uint8Array(this.#bytes.subarray(from, this.#at));
  }

  bytes8(most = 0xff): Uint8Array {
    return this.#field(this.u8(), most);
  }

  bytes16(most = 0xffff): Uint8Array {
    return this.#field(this.u16(), most);
  }

  bytes32(most: number): Uint8Array {
    return this.#field(this.u32(), most);
  }

  text8(most = 0xff): string {
    return decodeText(this.bytes8(most));
  }

  text16(most = 0xffff): string {
    return decodeText(this.bytes16(most));
  }

  /** How many of something follow, 16 bits. */
  count16(most: number): number {
    const count = this.u16();
    if (count > most) throw malformed(`it holds more than ${most} of something`);
    return count;
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw malformed("it has octets after its end");
  }

  #field(length: number, most: number): Uint8Array {
    if (length > most) throw malformed(`a field is longer than ${most} octets`);
    return this.raw(length);
  }

  #number(width: number): number {
    if (width > this.#bytes.length - this.#at) throw malformed("it ends in the middle of a number");
    const value = this.#bytes.readUIntBE(this.#at, width);
    this.#at += width;
    return value;
  }
}

/** With `fatal` no two byte strings read as one text; a byte order mark is a character like others. */
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** UTF-8 that is exact: what would be replaced on decoding is refused. */
export function decodeText(bytes: Uint8Array): string {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw malformed("a text is not UTF-8");
  }
}

/** What a reader of octets says of them: RiprapError `octets_malformed`. */
export function malformed(fact: string): RiprapError {
  return new RiprapError("octets_malformed", `Cannot read the message: ${fact}`);
}
