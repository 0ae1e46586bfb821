// Reads JSON as those must who trust what it says: a key that is there twice is a fault, an integer keeps all its digits. Bounded in depth. Writes it too.

import { RiprapError } from "./error.ts";

export type JsonValue =
  | null
  | boolean
  /** A number that a double holds exactly, or one with a fraction or an exponent. */
  | number
  /** An integer outside of ±2^53. */
  | bigint
  | string
  | readonly JsonValue[]
  | JsonObject;

export interface JsonObject {
  readonly [key: string]: JsonValue;
}

const DEPTH_MAX = 32;
/** A 64-bit number has 20 digits; one of thousands is an attack on whoever multiplies it out. */
const DIGITS_MAX = 40;
/** Control characters are for JSON.parse to refuse. */
const STRING = /"(?:[^"\\]|\\.)*"/y;
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const BLANK = /[ \t\n\r]*/y;
const WORDS: ReadonlyMap<string, JsonValue> = new Map<string, JsonValue>([
  ["true", true],
  ["false", false],
  ["null", null],
]);

/** The value of a JSON text (RFC 8259). RiprapError `json_invalid`. */
export function parseJson(text: string): JsonValue {
  const reader = new JsonReader(text);
  const value = reader.value(0);
  reader.end();
  return value;
}

/** The value of a text that is to be an object; `invalid` makes of what is wrong the error that is thrown. */
export function parseJsonObject(text: string, invalid: (fact: string, cause?: unknown) => Error): JsonObject {
  let value: JsonValue;
  try {
    value = parseJson(text);
  } catch (cause) {
    throw invalid((cause as Error).message, cause);
  }
  if (!isJsonObject(value)) throw invalid("it is no JSON object");
  return value;
}

/** A text of which parseJson makes the same value. */
export function writeJson(value: JsonValue): string {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map(writeJson).join(",")}]`;
  if (!isJsonObject(value)) return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, member]) => `${JSON.stringify(key)}:${writeJson(member)}`)
    .join(",")}}`;
}

/** Is it a JSON object? */
export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

class JsonReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  value(depth: number): JsonValue {
    if (depth > DEPTH_MAX) throw this.#fault(`it is deeper than ${DEPTH_MAX} levels`);
    this.#match(BLANK);
    switch (this.#text[this.#at]) {
      case "{":
        return this.#object(depth);
      case "[":
        return this.#array(depth);
      case '"':
        return this.#string();
      default:
        return this.#wordOrNumber();
    }
  }

  end(): void {
    this.#match(BLANK);
    if (this.#at < this.#text.length) throw this.#fault("something comes after its end");
  }

  #object(depth: number): JsonValue {
    const members = new Map<string, JsonValue>();
    this.#list("}", () => {
      const key = this.#string();
      if (members.has(key)) throw this.#fault(`the key ${JSON.stringify(key.slice(0, 60))} is there twice`);
      this.#match(BLANK);
      this.#take(":");
      members.set(key, this.value(depth + 1));
    });
    // Not by assignment: "__proto__" is a key like any other.
    return Object.fromEntries(members);
  }

  #array(depth: number): JsonValue {
    const items: JsonValue[] = [];
    this.#list("]", () => items.push(this.value(depth + 1)));
    return items;
  }

  #list(close: string, item: () => void): void {
    this.#at += 1;
    this.#match(BLANK);
    if (this.#text[this.#at] === close) {
      this.#at += 1;
      return;
    }
    for (;;) {
      this.#match(BLANK);
      item();
      this.#match(BLANK);
      if (this.#text[this.#at] !== ",") break;
      this.#at += 1;
    }
    this.#take(close);
  }

  #string(): string {
    const text = this.#match(STRING);
    if (text === undefined) throw this.#fault("a string is expected");
    const value = this.#unescape(text);
    if (!value.isWellFormed()) throw this.#fault("a string holds half of a surrogate pair");
    return value;
  }

  #unescape(text: string): string {
    try {
      return JSON.parse(text) as string;
    } catch {
      throw this.#fault("a string is malformed");
    }
  }

  #number(): number | bigint {
    const from = this.#at;
    const text = this.#match(NUMBER);
    if (text === undefined) throw this.#fault("a value is expected");
    const isInteger = /^-?\d+$/.test(text);
    if (text.length > DIGITS_MAX) throw this.#fault("a number is too long", from);
    const value = Number(text);
    if (!Number.isFinite(value)) throw this.#fault("a number is too large", from);
    return isInteger && !Number.isSafeInteger(value) ? BigInt(text) : value;
  }

  #wordOrNumber(): JsonValue {
    for (const [word, value] of WORDS) {
      if (!this.#text.startsWith(word, this.#at)) continue;
      this.#at += word.length;
      return value;
    }
    return this.#number();
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const text = pattern.exec(this.#text)?.[0];
    if (text !== undefined) this.#at += text.length;
    return text;
  }

  #take(character: string): void {
    if (this.#text[this.#at] !== character) throw this.#fault(`${JSON.stringify(character)} is expected`);
    this.#at += 1;
  }

  #fault(fact: string, at = this.#at): RiprapError {
    return new RiprapError("json_invalid", `Cannot read JSON: ${fact} at character ${at}`);
  }
}
