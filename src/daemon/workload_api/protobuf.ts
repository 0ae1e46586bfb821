// The wire form of protocol buffers, as far as the Workload API's messages use it. Knows no message; takes nothing that is cut short.

import { RiprapError } from "../../error.ts";

const WIRE = { varint: 0, fixed64: 1, delimited: 2, fixed32: 5 } as const;
/** The requests that are read here have few kinds of fields, and an audience or a name a field each. */
const FIELDS_MAX = 1024;
const FIELD_NUMBER_MAX = 536_870_911;
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export interface WireField {
  readonly number: number;
  /** Undefined for a number. */
  readonly bytes: Uint8Array | undefined;
  /** Of a varint, as it stands; undefined for anything else. */
  readonly value: bigint | undefined;
}

/** A string, bytes or a message inside another. Empty ones are left out where they stand alone, as proto3 does. */
export function delimited(number: number, value: Uint8Array | string): Uint8Array {
  const bytes = typeof value === "string" ? Buffer.from(value, "utf8") : value;
  const message = Buffer.allocUnsafe(headBytes(number, bytes.length) + bytes.length);
  message.set(bytes, putHead(message, 0, { number, length: bytes.length }));
  return message;
}

/** How long the head of such a field is. */
export function headBytes(number: number, length: number): number {
  return varintBytes(tagOf(number)) + varintBytes(length);
}

/** Writes it; answers where the content begins. */
export function putHead(message: Uint8Array, at: number, field: { number: number; length: number }): number {
  return putVarint(message, putVarint(message, at, tagOf(field.number)), field.length);
}

function tagOf(number: number): number {
  return (number << 3) | WIRE.delimited;
}

/** An entry of a map<string, bytes> or map<string, message>. */
export function mapEntry(number: number, key: string, value: Uint8Array): Uint8Array {
  return delimited(number, concat([delimited(1, key), delimited(2, value)]));
}

/** A bool, an enum or an unsigned integer below 2^31. */
export function integer(number: number, value: number): Uint8Array {
  return concat([varint((number << 3) | WIRE.varint), varint(value)]);
}

export function double(number: number, value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value, true);
  return concat([varint((number << 3) | WIRE.fixed64), bytes]);
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts);
}

/** The fields of a message in their order. RiprapError `message_invalid`. */
export function readFields(message: Uint8Array): readonly WireField[] {
  const fields: WireField[] = [];
  const reader = { message, at: 0 };
  while (reader.at < message.length) {
    if (fields.length === FIELDS_MAX) throw invalid(`it has more than ${FIELDS_MAX} fields`);
    fields.push(readField(reader));
  }
  return fields;
}

/** The texts of one repeated string field, in their order. RiprapError `message_invalid`. */
export function textsOf(fields: readonly WireField[], number: number): string[] {
  return fields.flatMap((field) =>
    field.number === number && field.bytes !== undefined ? [readText(field.bytes)] : [],
  );
}

/** The message inside another that counts: the last of its number; undefined when there is none. */
export function lastOf(fields: readonly WireField[], number: number): Uint8Array | undefined {
  return fields.findLast((field) => field.number === number && field.bytes !== undefined)?.bytes;
}

/** UTF-8, as proto3 requires of a string. RiprapError `message_invalid`. */
export function readText(bytes: Uint8Array): string {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw invalid("a string in it is not UTF-8");
  }
}

interface Reader {
  readonly message: Uint8Array;
  at: number;
}

function readField(reader: Reader): WireField {
  const tag = readVarint(reader);
  const number = Number(tag >> 3n);
  if (number < 1 || number > FIELD_NUMBER_MAX) throw invalid("a field has no number");
  switch (Number(tag & 7n)) {
    case WIRE.delimited:
      return { number, bytes: take(reader, readVarint(reader)), value: undefined };
    case WIRE.varint:
      return { number, bytes: undefined, value: readVarint(reader) };
    case WIRE.fixed64:
      take(reader, 8n);
      return { number, bytes: undefined, value: undefined };
    case WIRE.fixed32:
      take(reader, 4n);
      return { number, bytes: undefined, value: undefined };
    default:
      throw invalid("a field is of a kind that does not exist");
  }
}

function readVarint(reader: Reader): bigint {
  let value = 0n;
  for (let shift = 0n; shift < 70n; shift += 7n) {
    const byte = reader.message[reader.at++];
    if (byte === undefined) throw invalid("it is cut short");
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return BigInt.asUintN(64, value);
  }
  throw invalid("a number in it has no end");
}

function take(reader: Reader, length: bigint): Uint8Array {
  if (length > BigInt(reader.message.length - reader.at)) throw invalid("it is cut short");
  const from = reader.at;
  reader.at += Number(length);
  return reader.message.subarray(from, reader.at);
}

function varint(value: number): Uint8Array {
  const bytes = Buffer.alloc(varintBytes(value));
  putVarint(bytes, 0, value);
  return bytes;
}

function varintBytes(value: number): number {
  let count = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) count += 1;
  return count;
}

/** Where it ends. */
function putVarint(bytes: Uint8Array, at: number, value: number): number {
  let [next, rest] = [at, value];
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes[next++] = (rest % 128) | 0x80;
  bytes[next++] = rest;
  return next;
}

function invalid(fact: string): RiprapError {
  return new RiprapError("message_invalid", `Cannot read the message: ${fact}`);
}
