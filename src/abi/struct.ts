// Reads and writes one C struct by a table of its fields. Never lays out padding on its own: every byte has a name.

import { RiprapError } from "../error.ts";

type Scalar = "u8" | "u16" | "u32" | "s32" | "u64" | "s64";
/** `pad` is written as zero and not shown; `len` is computed from a tail part and not shown. */
export type FieldKind = Scalar | `bytes${number}` | `text${number}` | `pad${number}` | "len8" | "len16" | "len32";
export type Fields = Readonly<Record<string, FieldKind>>;

type ValueOf<K extends FieldKind> = K extends "u64" | "s64"
  ? bigint
  : K extends `bytes${number}`
    ? Uint8Array
    : K extends `text${number}`
      ? string
      : number;

/** What the fields of a struct hold, by their C names in camel case. */
export type StructValue<F extends Fields> = {
  readonly [N in keyof F as F[N] extends `pad${number}` | "len8" | "len16" | "len32" ? never : N]: ValueOf<F[N]>;
};

export interface FieldLayout {
  readonly name: string;
  readonly kind: FieldKind;
  readonly offset: number;
  readonly size: number;
}

type Lengths = Readonly<Record<string, number>>;

export interface Struct<F extends Fields> {
  /** The name of the struct in kernel/abi.h. */
  readonly name: string;
  readonly size: number;
  readonly fields: readonly FieldLayout[];
  /** A fresh buffer with the struct alone; `len` fields are 0. */
  encode(value: StructValue<F>): Uint8Array;
  /** Writes at `offset`; RangeError for a value that does not fit its field. */
  put(view: DataView, offset: number, value: StructValue<F>, lengths?: Lengths): void;
  /** RiprapError `malformed_frame` when fewer than `size` bytes are left at `offset`. Byte fields are copies. */
  decode(view: DataView, offset: number): StructValue<F>;
  /** The number in a `len` field. */
  lengthAt(view: DataView, offset: number, field: string): number;
}

const LATIN = new TextDecoder("latin1");

/** Lays out `fields` as C does, and refuses (TypeError) a table that would need unnamed padding. */
export function struct<const F extends Fields>(name: string, fields: F): Struct<F> {
  const layout: FieldLayout[] = [];
  let size = 0;
  for (const [field, kind] of Object.entries(fields)) {
    const width = widthOf(kind);
    const alignment = alignmentOf(kind, width);
    if (size % alignment !== 0) throw new TypeError(`struct ${name}: field ${field} is not aligned`);
    layout.push({ name: field, kind, offset: size, size: width });
    size += width;
  }
  if (size % 8 !== 0) throw new TypeError(`struct ${name}: ${size} bytes are no multiple of 8`);
  const at = new Map(layout.map((field) => [field.name, field]));

  const put = (view: DataView, offset: number, value: StructValue<F>, lengths: Lengths = {}): void => {
    const values = value as Readonly<Record<string, unknown>>;
    for (const field of layout) putField(view, offset + field.offset, field, values[field.name] ?? lengths[field.name]);
  };
  return {
    name,
    size,
    fields: layout,
    put,
    encode(value) {
      const bytes = new Uint8Array(size);
      put(viewOf(bytes), 0, value);
      return bytes;
    },
    decode(view, offset) {
      if (offset < 0 || offset + size > view.byteLength) {
        throw new RiprapError(
          "malformed_frame",
          `Cannot decode struct ${name}: ${view.byteLength - offset} of ${size} bytes`,
        );
      }
      const value: Record<string, unknown> = {};
      for (const field of layout) {
        if (!isHidden(field.kind)) value[field.name] = getField(view, offset + field.offset, field);
      }
      return value as StructValue<F>;
    },
    lengthAt(view, offset, field) {
      const found = at.get(field);
      if (found === undefined) throw new TypeError(`struct ${name} has no field ${field}`);
      const position = offset + found.offset;
      if (found.size === 1) return view.getUint8(position);
      return found.size === 2 ? view.getUint16(position, true) : view.getUint32(position, true);
    },
  };
}

/** A view of exactly these bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const SCALAR_WIDTH: Readonly<Record<string, number>> = {
  u8: 1,
  u16: 2,
  u32: 4,
  s32: 4,
  u64: 8,
  s64: 8,
  len8: 1,
  len16: 2,
  len32: 4,
};

function widthOf(kind: FieldKind): number {
  return SCALAR_WIDTH[kind] ?? Number(/\d+$/.exec(kind)?.[0]);
}

// Padding is declared as an array of its largest aligned element in C, which never needs more than the field before it gave.
function alignmentOf(kind: FieldKind, width: number): number {
  return kind in SCALAR_WIDTH ? width : 1;
}

function isHidden(kind: FieldKind): boolean {
  return kind.startsWith("pad") || kind.startsWith("len");
}

const RANGE: Readonly<Record<string, readonly [number, number]>> = {
  u8: [0, 0xff],
  len8: [0, 0xff],
  u16: [0, 0xffff],
  len16: [0, 0xffff],
  u32: [0, 0xffffffff],
  len32: [0, 0xffffffff],
  s32: [-0x80000000, 0x7fffffff],
};

function putField(view: DataView, position: number, field: FieldLayout, value: unknown): void {
  if (field.kind.startsWith("pad")) return;
  if (field.kind === "u64" || field.kind === "s64") {
    if (typeof value !== "bigint") throw new TypeError(`field ${field.name} takes a bigint`);
    const fits = field.kind === "u64" ? BigInt.asUintN(64, value) === value : BigInt.asIntN(64, value) === value;
    if (!fits) throw new RangeError(`field ${field.name} cannot hold ${value}`);
    view.setBigUint64(position, BigInt.asUintN(64, value), true);
    return;
  }
  if (field.kind.startsWith("bytes") || field.kind.startsWith("text")) {
    putBytes(view, position, field, typeof value === "string" ? Buffer.from(value, "latin1") : value);
    return;
  }
  const number = field.kind.startsWith("len") ? (value ?? 0) : value;
  const range = RANGE[field.kind];
  if (typeof number !== "number" || !Number.isInteger(number) || range === undefined) {
    throw new TypeError(`field ${field.name} takes an integer`);
  }
  if (number < range[0] || number > range[1]) throw new RangeError(`field ${field.name} cannot hold ${number}`);
  if (field.size === 1) view.setUint8(position, number);
  else if (field.size === 2) view.setUint16(position, number, true);
  else view.setInt32(position, number | 0, true);
}

function putBytes(view: DataView, position: number, field: FieldLayout, value: unknown): void {
  if (!(value instanceof Uint8Array)) throw new TypeError(`field ${field.name} takes bytes`);
  const exact = field.kind.startsWith("bytes");
  if (exact ? value.length !== field.size : value.length >= field.size) {
    throw new RangeError(`field ${field.name} cannot hold ${value.length} bytes`);
  }
  new Uint8Array(view.buffer, view.byteOffset + position, field.size).set(value);
}

function getField(view: DataView, position: number, field: FieldLayout): unknown {
  switch (field.kind) {
    case "u8":
      return view.getUint8(position);
    case "u16":
      return view.getUint16(position, true);
    case "u32":
      return view.getUint32(position, true);
    case "s32":
      return view.getInt32(position, true);
    case "u64":
      return view.getBigUint64(position, true);
    case "s64":
      return view.getBigInt64(position, true);
    default: {
      const bytes = new Uint8Array(view.buffer, view.byteOffset + position, field.size).slice();
      if (field.kind.startsWith("bytes")) return bytes;
      const end = bytes.indexOf(0);
      return LATIN.decode(end < 0 ? bytes : bytes.subarray(0, end));
    }
  }
}
