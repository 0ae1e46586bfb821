// The two documents of enrolment by file, as strict JSON: what a person carries between nodes. Parses and writes; signs, stores and believes nothing.
import { type EnrolmentGrant, type EnrolmentRequest, ID_PREFIXES_MAX } from "../enrolment.ts";
import { RiprapError } from "../error.ts";

/** A grant with all its prefixes and eight roots stays below. */
export const DOCUMENT_MAX = 256 * 1024;
const VERSION = 1;
/** A TLS chain's bound holds for one certificate too. */
const BINARY_MAX = 16384;
const TEXT_MAX = 2048;
const CERTIFICATES_MAX = 8;

/** How one field is written to JSON and read from it. `read` answers undefined for what it does not take. */
interface FieldForm<T> {
  readonly says: string;
  write(value: T): unknown;
  read(value: unknown): T | undefined;
}

type DocumentForm<T> = { readonly [Field in keyof T]: FieldForm<T[Field]> };

const text: FieldForm<string> = {
  says: `text of 1 to ${TEXT_MAX} characters`,
  write: (value) => value,
  read: (value) => (typeof value === "string" && value.length > 0 && value.length <= TEXT_MAX ? value : undefined),
};

/** Milliseconds since the epoch, written as `2026-11-21T12:00:00Z`. */
const time: FieldForm<number> = {
  says: "a time in whole seconds such as 2026-11-21T12:00:00Z",
  write: (value) => `${new Date(value).toISOString().slice(0, 19)}Z`,
  read(value) {
    if (typeof value !== "string" || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value)) return undefined;
    const ms = Date.parse(value);
    return Number.isNaN(ms) || time.write(ms) !== value ? undefined : ms;
  },
};

const binary: FieldForm<Uint8Array> = {
  says: `base64 of 1 to ${BINARY_MAX} bytes`,
  write: (value) => Buffer.from(value).toString("base64"),
  read(value) {
    if (typeof value !== "string" || value.length === 0 || value.length > BINARY_MAX * 1.4) return undefined;
    const bytes = Buffer.from(value, "base64");
    return bytes.length <= BINARY_MAX && bytes.toString("base64") === value ? Uint8Array.from(bytes) : undefined;
  },
};

function listOf<T>(form: FieldForm<T>, most: number): FieldForm<readonly T[]> {
  return {
    says: `a list of 1 to ${most}, each ${form.says}`,
    write: (values) => values.map(form.write),
    read(values) {
      if (!Array.isArray(values) || values.length === 0 || values.length > most) return undefined;
      const read = values.map((value) => form.read(value));
      return read.includes(undefined) ? undefined : (read as T[]);
    },
  };
}

const REQUEST: DocumentForm<EnrolmentRequest> = {
  trustDomain: text,
  nodeName: text,
  createdAt: time,
  expiresAt: time,
  csr: binary,
  signature: binary,
};

const GRANT: DocumentForm<EnrolmentGrant> = {
  trustDomain: text,
  nodeName: text,
  idPrefixes: listOf(text, ID_PREFIXES_MAX),
  issuedAt: time,
  expiresAt: time,
  chain: listOf(binary, CERTIFICATES_MAX),
  roots: listOf(binary, CERTIFICATES_MAX),
  signature: binary,
};

export function encodeEnrolmentRequest(request: EnrolmentRequest): string {
  return encode("riprap-enrolment-request", REQUEST, request);
}

/** Throws RiprapError `document_too_large`, `document_malformed`, `document_wrong_kind`, `document_wrong_version` or `document_field`. */
export function parseEnrolmentRequest(document: string): EnrolmentRequest {
  return parse("riprap-enrolment-request", REQUEST, document);
}

export function encodeEnrolmentGrant(grant: EnrolmentGrant): string {
  return encode("riprap-enrolment-grant", GRANT, grant);
}

/** Throws as parseEnrolmentRequest. */
export function parseEnrolmentGrant(document: string): EnrolmentGrant {
  return parse("riprap-enrolment-grant", GRANT, document);
}

function encode<T extends object>(kind: string, form: DocumentForm<T>, value: T): string {
  const fields = namesOf(form).map((name) => [name, form[name].write(value[name])]);
  return `${JSON.stringify({ kind, version: VERSION, ...Object.fromEntries(fields) }, null, 2)}\n`;
}

function parse<T extends object>(kind: string, form: DocumentForm<T>, document: string): T {
  const { kind: foundKind, version, ...fields } = parseObject(document);
  if (foundKind !== kind) {
    const found = typeof foundKind === "string" ? JSON.stringify(foundKind.slice(0, 60)) : "of no kind";
    throw refused("document_wrong_kind", `it is ${found}, and a ${kind} is wanted here`);
  }
  if (version !== VERSION) {
    throw refused(
      "document_wrong_version",
      `it is not of version ${VERSION}; make it again with the same riprap on both nodes`,
    );
  }
  const known: readonly string[] = namesOf(form);
  const unknown = Object.keys(fields).find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw refused("document_field", `it has the unknown field ${JSON.stringify(unknown.slice(0, 60))}`);
  const value: Partial<T> = {};
  for (const name of namesOf(form)) {
    const read = Object.hasOwn(fields, name) ? form[name].read(fields[name]) : undefined;
    if (read === undefined)
      throw refused("document_field", `its field ${name} is missing or wrong; it has to be ${form[name].says}`);
    value[name] = read;
  }
  return value as T;
}

function parseObject(document: string): Record<string, unknown> {
  if (document.length > DOCUMENT_MAX)
    throw refused("document_too_large", `it is longer than ${DOCUMENT_MAX} characters`);
  let value: unknown;
  try {
    value = JSON.parse(document);
  } catch (cause) {
    throw refused("document_malformed", "it is not JSON, or was cut off on the way", cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw refused("document_malformed", "it is not a JSON object");
  // JSON.parse keeps the last of two fields of one name and says nothing: written again, the text would be shorter.
  if (JSON.stringify(value) !== withoutSpace(document)) {
    throw refused("document_malformed", "it has a field twice, or writes a value in an unusual way");
  }
  return value as Record<string, unknown>;
}

/** The document without white space outside its strings. */
function withoutSpace(document: string): string {
  return document.replace(/("(?:[^"\\]|\\.)*")|\s+/g, "$1");
}

function namesOf<T extends object>(form: DocumentForm<T>): (keyof T & string)[] {
  return Object.keys(form) as (keyof T & string)[];
}

function refused(code: string, fact: string, cause?: unknown): RiprapError {
  return new RiprapError(code, `Cannot read the enrolment document: ${fact}`, cause === undefined ? {} : { cause });
}
