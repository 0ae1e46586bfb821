// Writes DER from its end to its start into one buffer that is used again: every length is known when its header is written. For the hot path only.

export class DerWriter {
  readonly #buffer: Buffer;
  #at: number;

  /** `capacity` bounds what one writing may hold; past it, RangeError. */
  constructor(capacity: number) {
    this.#buffer = Buffer.allocUnsafeSlow(capacity);
    this.#at = capacity;
  }

  /** Forgets what was written. */
  reset(): void {
    this.#at = this.#buffer.length;
  }

  /** The place to give to `header` once the content before it (in time) has been written. */
  get mark(): number {
    return this.#at;
  }

  /** Puts the octets before everything written so far. */
  bytes(bytes: Uint8Array): void {
    this.#back(bytes.length);
    this.#buffer.set(bytes, this.#at);
  }

  /** Puts ASCII text before everything written so far. */
  ascii(text: string): void {
    this.#back(text.length);
    this.#buffer.write(text, this.#at, text.length, "latin1");
  }

  octet(octet: number): void {
    this.#back(1);
    this.#buffer[this.#at] = octet;
  }

  /** Puts tag and length of what was written since `mark`. */
  header(tag: number, mark: number): void {
    const length = mark - this.#at;
    if (length < 0x80) this.octet(length);
    else {
      this.octet(length & 0xff);
      if (length >= 0x100) this.octet(length >> 8);
      this.octet(length < 0x100 ? 0x81 : 0x82);
    }
    this.octet(tag);
  }

  /** A view of what was written; the next reset gives its memory to something else. */
  view(): Uint8Array {
    return this.#buffer.subarray(this.#at);
  }

  #back(length: number): void {
    if (length > this.#at) throw new RangeError(`a certificate longer than ${this.#buffer.length} bytes`);
    this.#at -= length;
  }
}
