// Reads the head of an HTTP/1.1 message (RFC 9112), strictly and within bounds: start line and headers, nothing after. Pure.

/** More than curl, a browser or a SPIFFE client sends. */
export const HEAD_BYTES_MAX = 8192;
const HEADERS_MAX = 64;
const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** A tab, what is printed, and bytes past ASCII: no other control character. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

export interface HttpHead {
  readonly startLine: string;
  /** By name in lower case; a header that is there twice has both values. */
  readonly headers: ReadonlyMap<string, readonly string[]>;
  /** Where the body begins. */
  readonly length: number;
}

export type HeadReading =
  /** Its end has not come yet. */
  | { readonly state: "more" }
  | { readonly state: "whole"; readonly head: HttpHead }
  | { readonly state: "refused"; readonly fact: string; readonly isTooLarge: boolean };

/** Lines end in CRLF alone, and no header goes on in a second line. */
export function readHead(bytes: Uint8Array): HeadReading {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, HEAD_BYTES_MAX)).toString("latin1");
  const end = text.indexOf("\r\n\r\n");
  if (end < 0)
    return bytes.length >= HEAD_BYTES_MAX
      ? refuse(`it is longer than ${HEAD_BYTES_MAX} bytes`, true)
      : { state: "more" };
  const [startLine = "", ...lines] = text.slice(0, end).split("\r\n");
  if (!/^[\x20-\x7e]+$/.test(startLine)) return refuse("its first line has a character that is not printed");
  if (lines.length > HEADERS_MAX) return refuse(`it has more than ${HEADERS_MAX} headers`, true);
  const headers = new Map<string, string[]>();
  for (const line of lines) {
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(colon, 0));
    const value = line.slice(colon + 1).replace(/^[\t ]+|[\t ]+$/g, "");
    if (!NAME.test(name) || !VALUE.test(value)) return refuse("a header is malformed");
    const key = name.toLowerCase();
    headers.set(key, [...(headers.get(key) ?? []), value]);
  }
  return { state: "whole", head: { startLine, headers, length: end + 4 } };
}

/** The value of a header that may be there once. Undefined: it is not there; false: it is there twice. */
export function onlyHeader({ headers }: Pick<HttpHead, "headers">, name: string): string | undefined | false {
  const values = headers.get(name);
  if (values === undefined) return undefined;
  return values.length === 1 ? values[0] : false;
}

/** A length in bytes. False: it is none, or above `most`. */
export function parseLength(text: string, most: number): number | false {
  const length = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  return length <= most ? length : false;
}

function refuse(fact: string, isTooLarge = false): HeadReading {
  return { state: "refused", fact, isTooLarge };
}
