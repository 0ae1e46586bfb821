// Writes the self-description of a proto file (google.protobuf.FileDescriptorProto) from a few words for each field. Pure.

import { concat, delimited, integer } from "./protobuf.ts";

/** As in a proto file: `repeated bytes crl = 2`, `map<string, bytes> bundles = 1`. Types of messages with their package: `.pkg.Name`. */
export interface MessageSchema {
  readonly fields: readonly string[];
  /** Each a list of field names of which one alone is set. */
  readonly oneofs?: Readonly<Record<string, readonly string[]>>;
  readonly enums?: Readonly<Record<string, readonly string[]>>;
}

/** `name` → request and response, `stream ` before what is streamed. */
export type ServiceSchema = Readonly<Record<string, readonly [request: string, response: string]>>;

export interface FileSchema {
  readonly path: string;
  /** Empty: none. */
  readonly package: string;
  readonly imports?: readonly string[];
  readonly messages: Readonly<Record<string, MessageSchema>>;
  readonly enums?: Readonly<Record<string, readonly string[]>>;
  readonly services?: Readonly<Record<string, ServiceSchema>>;
}

/** FieldDescriptorProto.Type */
const SCALAR: Readonly<Record<string, number>> = { double: 1, int32: 5, bool: 8, string: 9, bytes: 12 };
const TYPE_MESSAGE = 11;
const TYPE_ENUM = 14;
const LABEL_OPTIONAL = 1;
const LABEL_REPEATED = 3;
const FIELD = /^(repeated )?(map<string, ([\w.]+)>|(enum )?[\w.]+) (\w+) = (\d+)$/;
/** MessageOptions { map_entry: true } */
const MAP_ENTRY = integer(7, 1);

/** The serialized FileDescriptorProto. */
export function encodeFileDescriptor(file: FileSchema): Uint8Array {
  return concat([
    delimited(1, file.path),
    ...(file.package === "" ? [] : [delimited(2, file.package)]),
    ...(file.imports ?? []).map((path) => delimited(3, path)),
    ...Object.entries(file.messages).map(([name, message]) => delimited(4, messageOf(name, message, file))),
    ...Object.entries(file.enums ?? {}).map(([name, values]) => delimited(5, enumOf(name, values))),
    ...Object.entries(file.services ?? {}).map(([name, service]) => delimited(6, serviceOf(name, service, file))),
    delimited(12, "proto3"),
  ]);
}

/** Every name that the file defines, with its package: messages, enumerations, services and their methods. */
export function symbolsOf(file: FileSchema): readonly string[] {
  const nested = Object.entries(file.messages).flatMap(([name, { enums }]) =>
    Object.keys(enums ?? {}).map((inner) => `${name}.${inner}`),
  );
  const methods = Object.entries(file.services ?? {}).flatMap(([name, service]) => [
    name,
    ...Object.keys(service).map((method) => `${name}.${method}`),
  ]);
  const names = [...Object.keys(file.messages), ...Object.keys(file.enums ?? {}), ...nested, ...methods];
  return names.map((name) => qualify(file, name));
}

function qualify(file: FileSchema, name: string): string {
  return file.package === "" ? name : `${file.package}.${name}`;
}

function messageOf(name: string, { fields, oneofs = {}, enums = {} }: MessageSchema, file: FileSchema): Uint8Array {
  const parsed = fields.map(parseField);
  const groups = Object.values(oneofs);
  const entries = parsed.flatMap(({ mapOf, field }) => (mapOf === undefined ? [] : [{ mapOf, field }]));
  return concat([
    delimited(1, name),
    ...parsed.map((field) => {
      const group = groups.findIndex((names) => names.includes(field.field));
      const type = field.mapOf === undefined ? field.type : `.${qualify(file, name)}.${entryName(field.field)}`;
      return delimited(2, fieldOf({ ...field, type, group }));
    }),
    ...entries.map(({ mapOf, field }) => delimited(3, mapEntryOf(field, mapOf))),
    ...Object.entries(enums).map(([inner, values]) => delimited(4, enumOf(inner, values))),
    ...Object.keys(oneofs).map((oneof) => delimited(8, delimited(1, oneof))),
  ]);
}

interface Field {
  readonly field: string;
  readonly number: number;
  readonly type: string;
  readonly isEnum: boolean;
  readonly isRepeated: boolean;
  /** The type of a map's values. */
  readonly mapOf: string | undefined;
}

function parseField(text: string): Field {
  const match = FIELD.exec(text);
  if (match === null) throw new TypeError(`"${text}" is no field`);
  const [, repeated, type = "", mapOf, isEnum, field = "", number] = match;
  return {
    field,
    number: Number(number),
    type: type.replace("enum ", ""),
    isEnum: isEnum !== undefined,
    isRepeated: repeated !== undefined || mapOf !== undefined,
    mapOf,
  };
}

function fieldOf({ field, number, type, isEnum, isRepeated, group }: Field & { readonly group: number }): Uint8Array {
  const scalar = SCALAR[type];
  return concat([
    delimited(1, field),
    integer(3, number),
    integer(4, isRepeated ? LABEL_REPEATED : LABEL_OPTIONAL),
    integer(5, scalar ?? (isEnum ? TYPE_ENUM : TYPE_MESSAGE)),
    ...(scalar === undefined ? [delimited(6, type)] : []),
    ...(group < 0 ? [] : [integer(9, group)]),
  ]);
}

/** What a map is on the wire: a repeated message of a key and a value. */
function mapEntryOf(field: string, mapOf: string): Uint8Array {
  const plain = { isEnum: false, isRepeated: false, mapOf: undefined, group: -1 };
  return concat([
    delimited(1, entryName(field)),
    delimited(2, fieldOf({ ...plain, field: "key", number: 1, type: "string" })),
    delimited(2, fieldOf({ ...plain, field: "value", number: 2, type: mapOf })),
    delimited(7, MAP_ENTRY),
  ]);
}

/** `federated_bundles` → `FederatedBundlesEntry` */
function entryName(field: string): string {
  const words = field.split("_").map((word) => `${word.charAt(0).toUpperCase()}${word.slice(1)}`);
  return `${words.join("")}Entry`;
}

function enumOf(name: string, values: readonly string[]): Uint8Array {
  return concat([
    delimited(1, name),
    ...values.map((value, number) => delimited(2, concat([delimited(1, value), integer(2, number)]))),
  ]);
}

function serviceOf(name: string, service: ServiceSchema, file: FileSchema): Uint8Array {
  const methods = Object.entries(service).map(([method, [request, response]]) =>
    delimited(
      2,
      concat([
        delimited(1, method),
        delimited(2, `.${qualify(file, request.replace("stream ", ""))}`),
        delimited(3, `.${qualify(file, response.replace("stream ", ""))}`),
        ...(request.startsWith("stream ") ? [integer(5, 1)] : []),
        ...(response.startsWith("stream ") ? [integer(6, 1)] : []),
      ]),
    ),
  );
  return concat([delimited(1, name), ...methods]);
}
