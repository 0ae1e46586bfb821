// An IP address prefix as the kernel compares it: 16 bytes, IPv4 as ::ffff:a.b.c.d. Never resolves a name.
import { isIPv4, isIPv6 } from "node:net";
import { RiprapError } from "./error.ts";

const BYTES = 16;
const MAPPED_BITS = 96;

/** An address with a prefix length of 0..128; a single address has 128. `::/0` written out is not one: see `parse`. */
export class AddressPrefix {
  /** Any address of either family. */
  static readonly any = new AddressPrefix(new Uint8Array(BYTES), 0);

  readonly bytes: Uint8Array;
  readonly length: number;

  private constructor(bytes: Uint8Array, length: number) {
    this.bytes = bytes;
    this.length = length;
  }

  /**
   * Parses `10.0.0.1`, `10.0.0.0/8`, `2001:db8::1` or `2001:db8::/32`. Refuses bits past the prefix, zone names, and an
   * IPv6 prefix that would cover the mapped IPv4 addresses too. Throws RiprapError `address_invalid`.
   */
  static parse(text: string): AddressPrefix {
    const slash = text.indexOf("/");
    const host = slash < 0 ? text : text.slice(0, slash);
    const bytes = parseAddress(host);
    if (bytes === undefined) {
      throw refuse(
        text,
        "it is neither an IPv4 nor an IPv6 address; write it like 10.1.2.3, 10.0.0.0/8 or 2001:db8::/32",
      );
    }
    if (slash < 0) return new AddressPrefix(bytes, BYTES * 8);
    const isV4 = isIPv4(host);
    const bits = text.slice(slash + 1);
    const most = isV4 ? 32 : 128;
    if (!/^(0|[1-9]\d{0,2})$/.test(bits) || Number(bits) > most) {
      throw refuse(text, `the prefix length is not a number from 0 to ${most}`);
    }
    const length = Number(bits) + (isV4 ? MAPPED_BITS : 0);
    const masked = mask(bytes, length);
    if (!equal(bytes, masked)) {
      throw refuse(text, `it has bits set past its prefix; write ${format(masked)}/${bits}, or leave out /${bits}`);
    }
    if (length < MAPPED_BITS && equal(mask(MAPPED, length), masked)) {
      throw refuse(
        text,
        "it covers every IPv4 address too; leave the address out for any, or write 2000::/3 for global IPv6",
      );
    }
    return new AddressPrefix(masked, length);
  }

  /** As `parse`, undefined instead of a throw. */
  static tryParse(text: string): AddressPrefix | undefined {
    try {
      return AddressPrefix.parse(text);
    } catch (error) {
      if (error instanceof RiprapError) return undefined;
      throw error;
    }
  }

  get isSingle(): boolean {
    return this.length === BYTES * 8;
  }

  contains(address: Uint8Array): boolean {
    return equal(mask(address, this.length), this.bytes);
  }

  /** IPv4 as people write it. */
  toString(): string {
    if (this.length === 0) return "any";
    const text = format(this.bytes);
    if (this.isSingle) return text;
    return `${text}/${isMapped(this.bytes) ? this.length - MAPPED_BITS : this.length}`;
  }
}

const MAPPED = new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);

/** 16 bytes of an address of either family, or undefined. */
export function parseAddress(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return Uint8Array.of(...MAPPED.subarray(0, 12), ...text.split(".").map(Number));
  if (!isIPv6(text) || text.includes("%")) return undefined;
  return parseV6(text);
}

/** As people write it: IPv4-mapped as dotted quads, IPv6 as RFC 5952 says. */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length !== BYTES) throw new RangeError(`an address has ${BYTES} bytes, not ${bytes.length}`);
  return format(bytes);
}

/** The address with every bit past `length` cleared. */
export function mask(bytes: Uint8Array, length: number): Uint8Array {
  const out = new Uint8Array(BYTES);
  const whole = length >> 3;
  out.set(bytes.subarray(0, whole));
  if ((length & 7) !== 0) out[whole] = (bytes[whole] ?? 0) & (0xff00 >> (length & 7));
  return out;
}

function parseV6(text: string): Uint8Array {
  const dotted = text.lastIndexOf(".") < 0 ? text : expandQuad(text);
  const [head = "", tail] = dotted.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const words = [...left, ...new Array<string>(8 - left.length - right.length).fill("0"), ...right];
  return Uint8Array.from(words.flatMap((word) => [Number.parseInt(word, 16) >> 8, Number.parseInt(word, 16) & 0xff]));
}

function expandQuad(text: string): string {
  const at = text.lastIndexOf(":") + 1;
  const [a = 0, b = 0, c = 0, d = 0] = text.slice(at).split(".").map(Number);
  return `${text.slice(0, at)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

function format(bytes: Uint8Array): string {
  if (isMapped(bytes)) return bytes.subarray(12).join(".");
  const words = Array.from({ length: 8 }, (_, i) => ((bytes[i * 2] ?? 0) << 8) | (bytes[i * 2 + 1] ?? 0));
  const run = longestZeroRun(words);
  const hex = (part: readonly number[]) => part.map((word) => word.toString(16)).join(":");
  if (run === undefined) return hex(words);
  return `${hex(words.slice(0, run.from))}::${hex(words.slice(run.to))}`;
}

function longestZeroRun(words: readonly number[]): { from: number; to: number } | undefined {
  let best: { from: number; to: number } | undefined;
  for (let from = 0; from < words.length; from++) {
    let to = from;
    while (words[to] === 0) to++;
    if (to - from >= 2 && to - from > (best === undefined ? 0 : best.to - best.from)) best = { from, to };
  }
  return best;
}

function isMapped(bytes: Uint8Array): boolean {
  return equal(bytes.subarray(0, 12), MAPPED.subarray(0, 12));
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

function refuse(text: string, fact: string): RiprapError {
  return new RiprapError("address_invalid", `Cannot parse address ${JSON.stringify(text.slice(0, 80))}: ${fact}`);
}
