// Takes one HTTP/1.1 response as it comes (RFC 9112 sections 6 and 7), within bounds: by length, in chunks, or up to the end. Pure.

import { RiprapError } from "../../error.ts";
import { type HttpHead, onlyHeader, parseLength, readHead } from "./http_head.ts";

export interface HttpResponse {
  readonly status: number;
  readonly headers: HttpHead["headers"];
  readonly body: Uint8Array;
}

type Framing = { readonly by: "length"; readonly length: number } | { readonly by: "chunks" | "end" };
type ResponseHead = HttpHead & { readonly status: number; readonly framing: Framing };

const CHUNK_LINE_MAX = 256;
/** A server that sends each byte as a chunk is not one that wants to be understood. */
const CHUNKS_MAX = 65_536;
const BODY_BYTES_FIRST = 16_384;

/** RiprapError `response_invalid` from each of its methods, for what no server of bundles would send. */
export class ResponseReader {
  readonly #bodyMax: number;
  #head: ResponseHead | undefined;
  /** What came and is not understood yet: a part of the head, or of the line before a chunk. */
  #rest = Buffer.alloc(0);
  /** Grows by doubling, so that a server of single bytes costs no more than one of packets. */
  #body = Buffer.alloc(BODY_BYTES_FIRST);
  #size = 0;
  #chunks = 0;
  /** Of the chunk that is being read, with the line end after it; 0: the line before a chunk comes. */
  #left = 0;

  constructor(bodyMax: number) {
    this.#bodyMax = bodyMax;
  }

  /** The response once it is whole; undefined: there is more to come. */
  push(bytes: Uint8Array): HttpResponse | undefined {
    let fresh = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    if (this.#head === undefined) {
      this.#rest = Buffer.concat([this.#rest, fresh]);
      this.#head = readResponseHead(this.#rest, this.#bodyMax);
      if (this.#head === undefined) return undefined;
      fresh = this.#rest.subarray(this.#head.length);
      this.#rest = Buffer.alloc(0);
    }
    const { framing } = this.#head;
    if (framing.by === "chunks") return this.#takeChunks(fresh) ? this.#finish() : undefined;
    this.#take(framing.by === "length" ? fresh.subarray(0, framing.length - this.#size) : fresh);
    return framing.by === "length" && this.#size === framing.length ? this.#finish() : undefined;
  }

  /** The other end sends no more. */
  end(): HttpResponse {
    if (this.#head?.framing.by === "end") return this.#finish();
    throw invalid(this.#head === undefined ? "it ended in its head" : "it ended before its body was whole");
  }

  /** True at the last chunk. Trailers say nothing that is needed here: the connection ends after this response. */
  #takeChunks(fresh: Buffer): boolean {
    for (let at = 0; at < fresh.length; ) {
      if (this.#left > 0) {
        const part = fresh.subarray(at, at + this.#left);
        // The last two bytes of what is left are the line end.
        this.#take(part.subarray(0, Math.max(0, Math.min(part.length, this.#left - 2))));
        this.#left -= part.length;
        at += part.length;
        continue;
      }
      const lineEnd = fresh.indexOf(0x0a, at);
      this.#rest = Buffer.concat([this.#rest, fresh.subarray(at, lineEnd < 0 ? undefined : lineEnd + 1)]);
      if (this.#rest.length > CHUNK_LINE_MAX) throw invalid("a line of its chunks has no end");
      if (lineEnd < 0) return false;
      at = lineEnd + 1;
      const length = parseChunkLine(this.#rest.toString("latin1"));
      this.#rest = Buffer.alloc(0);
      if (length === 0) return true;
      if (this.#size + length > this.#bodyMax) throw tooLong(this.#bodyMax);
      this.#chunks += 1;
      if (this.#chunks > CHUNKS_MAX) throw invalid(`it has more than ${CHUNKS_MAX} chunks`);
      this.#left = length + 2;
    }
    return false;
  }

  #take(part: Uint8Array): void {
    const size = this.#size + part.length;
    if (size > this.#bodyMax) throw tooLong(this.#bodyMax);
    if (size > this.#body.length) {
      const larger = Buffer.alloc(Math.min(Math.max(2 * this.#body.length, size), this.#bodyMax));
      this.#body.copy(larger, 0, 0, this.#size);
      this.#body = larger;
    }
    this.#body.set(part, this.#size);
    this.#size = size;
  }

  #finish(): HttpResponse {
    const { status, headers } = this.#head as ResponseHead;
    return { status, headers, body: this.#body.subarray(0, this.#size) };
  }
}

function readResponseHead(bytes: Uint8Array, bodyMax: number): ResponseHead | undefined {
  const reading = readHead(bytes);
  if (reading.state === "more") return undefined;
  if (reading.state === "refused") throw invalid(reading.fact);
  const { head } = reading;
  const [, code] = /^HTTP\/1\.[01] ([1-5]\d\d)(?: .*)?$/.exec(head.startLine) ?? [];
  if (code === undefined) throw invalid("its first line is no HTTP/1.1");
  const status = Number(code);
  if (status < 200) throw invalid(`status ${status} was not asked for`);
  return { ...head, status, framing: framingOf(head, { status, bodyMax }) };
}

/** RFC 9112 section 6.3. Two ways to tell the end are one too many. */
function framingOf(head: HttpHead, { status, bodyMax }: { status: number; bodyMax: number }): Framing {
  const coding = onlyHeader(head, "transfer-encoding");
  const length = onlyHeader(head, "content-length");
  if (status === 204 || status === 304) return { by: "length", length: 0 };
  if (coding === false || length === false) throw invalid("it tells its length twice");
  if (coding !== undefined && length !== undefined) throw invalid("it tells its length in two ways");
  if (coding !== undefined) {
    if (coding.toLowerCase() !== "chunked") throw invalid("its transfer coding is not known");
    return { by: "chunks" };
  }
  if (length === undefined) return { by: "end" };
  const parsed = parseLength(length, bodyMax);
  if (parsed === false) throw invalid(`its length is malformed, or more than ${bodyMax} bytes`);
  return { by: "length", length: parsed };
}

/** A length and, perhaps, extensions. The line end of the chunk before it is not looked at: it is of fixed length. */
function parseChunkLine(line: string): number {
  const [, digits] = /^([0-9a-fA-F]{1,8})(?:[\t ]*;[\x20-\x7e\t]*)?\r\n$/.exec(line) ?? [];
  if (digits === undefined) throw invalid("a chunk's length is malformed");
  return Number.parseInt(digits, 16);
}

function tooLong(most: number): RiprapError {
  return invalid(`its body is longer than ${most} bytes`);
}

function invalid(fact: string): RiprapError {
  return new RiprapError("response_invalid", `Cannot read the server's response: ${fact}`);
}
