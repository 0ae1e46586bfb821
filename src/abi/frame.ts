// One frame type of /dev/riprap: its fixed struct and its variable tail. Never allocates by a length it has not checked.

import { RiprapError } from "../error.ts";
import { type Fields, type Struct, type StructValue, struct, viewOf } from "./struct.ts";

/**
 * `text`: raw bytes shown as UTF-8, what is not UTF-8 shows as U+FFFD (paths, argv). `id`: strict UTF-8 without a
 * NUL. `bytes`: as they are. `chain`: certificates, each __u32 length then DER.
 */
export type TailKind = "text" | "id" | "bytes" | "chain";
/** Part name to [length field, kind, most bytes]; the order is the order on the wire. */
export type Tail = Readonly<Record<string, readonly [length: string, kind: TailKind, max: number]>>;

type TailValue<K extends TailKind> = K extends "text" | "id"
  ? string
  : K extends "bytes"
    ? Uint8Array
    : readonly Uint8Array[];

/** The body of a frame: its fields without padding and lengths, and the parts of its tail. */
export type FrameBody<F extends Fields, T extends Tail> = StructValue<F> & {
  readonly [P in keyof T]: TailValue<T[P][1]>;
};

export interface FrameCodec<F extends Fields, T extends Tail> {
  /** enum riprap_frame_type */
  readonly type: number;
  readonly struct: Struct<F>;
  encodePayload(body: FrameBody<F, T>): Uint8Array;
  /** RiprapError `malformed_frame` unless the payload is exactly the struct and the tail that it announces. */
  decodePayload(payload: Uint8Array): FrameBody<F, T>;
}

const CERTIFICATE_HEAD = 4;
const CERTIFICATE_COUNT = "certs";
const LOSSY = new TextDecoder("utf-8", { ignoreBOM: true });
const STRICT = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

/** Names a frame type: number, struct name in kernel/abi.h, fields, tail parts, most certificates of a chain. */
export function frame<const F extends Fields, const T extends Tail = Readonly<Record<never, never>>>(
  type: number,
  shape: { readonly name: string; readonly fields: F; readonly tail?: T; readonly certificates?: number },
): FrameCodec<F, T> {
  const fixed = struct(shape.name, shape.fields);
  const parts = Object.entries(shape.tail ?? {});
  const certificates = shape.certificates ?? 0;
  return {
    type,
    struct: fixed,
    encodePayload(body) {
      const values = body as Readonly<Record<string, unknown>>;
      const lengths: Record<string, number> = {};
      const tails: Uint8Array[] = [];
      let size = fixed.size;
      for (const [name, [length, kind, max]] of parts) {
        const bytes = encodePart(values[name], kind, certificates);
        if (bytes.length > max)
          throw new RangeError(`frame ${shape.name}: ${name} has ${bytes.length} of ${max} bytes`);
        if (kind === "chain") lengths[CERTIFICATE_COUNT] = (values[name] as readonly Uint8Array[]).length;
        lengths[length] = bytes.length;
        tails.push(bytes);
        size += bytes.length;
      }
      const payload = new Uint8Array(size);
      fixed.put(viewOf(payload), 0, body, lengths);
      let offset = fixed.size;
      for (const bytes of tails) {
        payload.set(bytes, offset);
        offset += bytes.length;
      }
      return payload;
    },
    decodePayload(payload) {
      const view = viewOf(payload);
      const body: Record<string, unknown> = { ...fixed.decode(view, 0) };
      let offset = fixed.size;
      for (const [name, [field, kind, max]] of parts) {
        const length = fixed.lengthAt(view, 0, field);
        if (length > max || offset + length > payload.length) {
          throw malformed(
            shape.name,
            `${name} announces ${length} bytes of ${payload.length - offset} left, at most ${max}`,
          );
        }
        const bytes = payload.subarray(offset, offset + length);
        body[name] = decodePart(bytes, {
          kind,
          frame: shape.name,
          part: name,
          certificates,
          count: () => fixed.lengthAt(view, 0, CERTIFICATE_COUNT),
        });
        offset += length;
      }
      if (offset !== payload.length) throw malformed(shape.name, `${payload.length - offset} bytes too many`);
      return body as FrameBody<F, T>;
    },
  };
}

export function malformed(frameName: string, fact: string): RiprapError {
  return new RiprapError("malformed_frame", `Cannot decode frame ${frameName}: ${fact}`);
}

function encodePart(value: unknown, kind: TailKind, certificates: number): Uint8Array {
  if (kind === "chain") return encodeChain(value as readonly Uint8Array[], certificates);
  if (typeof value === "string") return Buffer.from(value, "utf8");
  if (value instanceof Uint8Array) return value;
  throw new TypeError("a tail part takes a string or bytes");
}

interface PartContext {
  readonly kind: TailKind;
  readonly frame: string;
  readonly part: string;
  readonly certificates: number;
  count(): number;
}

function decodePart(bytes: Uint8Array, context: PartContext): unknown {
  switch (context.kind) {
    case "bytes":
      return bytes.slice();
    case "text":
      return LOSSY.decode(bytes);
    case "id":
      return decodeId(bytes, context);
    case "chain":
      return decodeChain(bytes, context);
  }
}

function decodeId(bytes: Uint8Array, context: PartContext): string {
  if (bytes.includes(0)) throw malformed(context.frame, `${context.part} holds a NUL`);
  try {
    return STRICT.decode(bytes);
  } catch (cause) {
    throw new RiprapError("malformed_frame", `Cannot decode frame ${context.frame}: ${context.part} is not UTF-8`, {
      cause,
    });
  }
}

function encodeChain(chain: readonly Uint8Array[], most: number): Uint8Array {
  if (chain.length > most) throw new RangeError(`a chain of ${chain.length} certificates, at most ${most}`);
  const bytes = new Uint8Array(chain.reduce((sum, certificate) => sum + CERTIFICATE_HEAD + certificate.length, 0));
  const view = viewOf(bytes);
  let offset = 0;
  for (const certificate of chain) {
    view.setUint32(offset, certificate.length, true);
    bytes.set(certificate, offset + CERTIFICATE_HEAD);
    offset += CERTIFICATE_HEAD + certificate.length;
  }
  return bytes;
}

function decodeChain(bytes: Uint8Array, context: PartContext): readonly Uint8Array[] {
  const count = context.count();
  if (count > context.certificates)
    throw malformed(context.frame, `${count} certificates, at most ${context.certificates}`);
  const view = viewOf(bytes);
  const chain: Uint8Array[] = [];
  let offset = 0;
  for (let index = 0; index < count; index++) {
    if (offset + CERTIFICATE_HEAD > bytes.length) throw malformed(context.frame, `certificate ${index} is missing`);
    const length = view.getUint32(offset, true);
    offset += CERTIFICATE_HEAD;
    if (length === 0 || length > bytes.length - offset)
      throw malformed(context.frame, `certificate ${index} has ${length} bytes`);
    chain.push(bytes.slice(offset, offset + length));
    offset += length;
  }
  if (offset !== bytes.length)
    throw malformed(context.frame, `${bytes.length - offset} bytes after the last certificate`);
  return chain;
}
