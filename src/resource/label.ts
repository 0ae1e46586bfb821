// Every label that a selector can name: how it is compared, what values it can have, how many at a time. One table.
import type { LabelMatch } from "../resource.ts";
import { quote, suggest } from "./field.ts";

interface LabelRule {
  readonly match: LabelMatch;
  /** A process has one value at most. */
  readonly isSingle: boolean;
  /** Its value can stand as a segment of a SPIFFE ID path. */
  readonly fitsPath: boolean;
  /** The normal form of a value, or why there can be none like it. */
  readonly parse: (text: string) => { readonly value: string } | { readonly fault: string; readonly remedy: string };
}

type ParsedValue = ReturnType<LabelRule["parse"]>;

/** A kernel command name (TASK_COMM_LEN with its NUL). */
export const COMM_BYTES_MAX = 15;
const VALUE_CHARACTERS_MAX = 4096;

const one = { match: "exact", isSingle: true, fitsPath: true } as const;
const many = { match: "exact", isSingle: false, fitsPath: true } as const;
const path = { match: "path", isSingle: true, fitsPath: false, parse: parsePath } as const;

const LABELS: Readonly<Record<string, LabelRule>> = {
  "process:pid": { ...one, parse: parseNumber },
  "process:name": { ...one, parse: parseComm },
  "process:exe": path,
  "process:exe:sha256": { ...one, parse: parseSha256 },
  "process:script": path,
  "process:script:sha256": { ...one, parse: parseSha256 },
  "process:cmdline": { match: "words", isSingle: true, fitsPath: false, parse: parseAny },
  "process:uid": { ...one, parse: parseId },
  "process:gid": { ...one, parse: parseId },
  "process:user": { ...one, parse: parseAny },
  "process:group": { ...many, parse: parseAny },
  "process:caps": { ...many, parse: parseCapability },
  "process:no_new_privs": { ...one, parse: parseBoolean },
  "process:seccomp": { ...one, parse: parseSeccomp },
  "process:ancestor:pid": { ...many, parse: parseNumber },
  "process:ancestor:name": { ...many, parse: parseComm },
  "process:ancestor:exe": { ...path, isSingle: false },
  "process:ancestor:script": { ...path, isSingle: false },
  "process:ancestor:uid": { ...many, parse: parseId },
  "systemd:unit": { ...one, parse: parseAny },
  "systemd:slice": { ...one, parse: parseAny },
  "container:id": { ...one, parse: parseAny },
  "container:runtime": { ...one, parse: parseAny },
};

/** `process:arg[n]`; the kernel keeps 4096 bytes of arguments, so no more than that many. */
const ARGUMENT = /^process:arg\[(0|[1-9]\d{0,3})\]$/;
/** Rooms whose labels are made elsewhere, from names that nobody can list. */
const OPEN_ROOMS = /^(docker|k8s|node):[^\s[\]]+$/;

/** Names that other systems use for what riprap calls otherwise. */
const OTHER_NAMES: Readonly<Record<string, string>> = {
  "process:binary:path": "process:exe",
  "process:binary:hash": "process:exe:sha256",
  "process:uid:real": "process:uid",
  "process:uid:effective": "process:uid",
  "process:gid:real": "process:gid",
  "process:gid:effective": "process:gid",
  "process:gid:additional": "process:group",
  "process:comm": "process:name",
  "process:path": "process:exe",
  "process:ppid": "process:ancestor:pid",
};

/** The rule of a label name, or undefined for a name that no process can have. */
export function labelRule(name: string): LabelRule | undefined {
  if (Object.hasOwn(LABELS, name)) return LABELS[name];
  if (ARGUMENT.test(name)) return { ...one, parse: parseAny };
  if (OPEN_ROOMS.test(name)) return { ...many, parse: parseAny };
  return undefined;
}

/** Every name that stands in the table, sorted; `process:arg[n]` and the open rooms `docker:`, `k8s:`, `node:` come beside them. */
export function labelNames(): readonly string[] {
  return Object.keys(LABELS).sort();
}

/** What to write in place of a name that is not known. */
export function labelRemedy(name: string): string {
  const other = Object.hasOwn(OTHER_NAMES, name) ? OTHER_NAMES[name] : undefined;
  if (other !== undefined) return `write ${other}`;
  return suggest(name, Object.keys(LABELS)) ?? "see `riprap attest PID` for the labels of a process";
}

function parseAny(text: string): ParsedValue {
  if (text.length > VALUE_CHARACTERS_MAX) return no("it is longer than any label value", "shorten it");
  if (/[\0\r\n]/.test(text)) return no("it has a line break or a NUL", "remove it");
  if (text.trim() !== text) return no(`${quote(text)} begins or ends with a blank`, "remove the blank");
  return { value: text };
}

function parseNumber(text: string): ParsedValue {
  return /^(0|[1-9]\d{0,9})$/.test(text) ? { value: text } : no(`${quote(text)} is not a number`, "write digits alone");
}

function parseId(text: string): ParsedValue {
  // 2^32 - 1 is "no ID" to the kernel.
  if (/^(0|[1-9]\d{0,9})$/.test(text) && Number(text) < 0xffffffff) return { value: text };
  return no(
    `${quote(text)} is not a number from 0 to 4294967294`,
    "write the number; process:user and process:group take names",
  );
}

function parseComm(text: string): ParsedValue {
  const bytes = new TextEncoder().encode(text).length;
  if (bytes <= COMM_BYTES_MAX) return parseAny(text);
  const cut = quote(text.slice(0, COMM_BYTES_MAX));
  return no(
    `${quote(text)} has ${bytes} bytes, and the kernel keeps ${COMM_BYTES_MAX} of a name`,
    `write ${cut}, or select process:exe`,
  );
}

function parsePath(text: string): ParsedValue {
  const body = text.endsWith("*") ? text.slice(0, -1) : text;
  if (!body.startsWith("/")) return no(`${quote(text)} is not an absolute path`, "begin it with /");
  if (body.includes("*")) return no(`${quote(text)} has a * that is not at its end`, "a path takes one * at its end");
  const parts = body.slice(1).split("/");
  const inner = parts.slice(0, -1);
  const last = parts.at(-1) ?? "";
  if (inner.includes("") || [...inner, last].some((part) => part === "." || part === "..")) {
    return no(
      `${quote(text)} has an empty or relative part, which no resolved path has`,
      "write the path as realpath shows it",
    );
  }
  if (last === "" && body === text)
    return no(`${quote(text)} names a directory`, `write ${quote(`${text}*`)} for all below it`);
  return parseAny(text);
}

function parseSha256(text: string): ParsedValue {
  if (/^[0-9a-f]{64}$/i.test(text)) return { value: text.toLowerCase() };
  return no(`${quote(text)} is not a SHA-256 digest`, "write its 64 hexadecimal digits");
}

function parseCapability(text: string): ParsedValue {
  if (/^CAP_[A-Z][A-Z0-9_]*$/.test(text)) return { value: text };
  return no(`${quote(text)} is not a capability`, "write it like CAP_NET_RAW");
}

function parseBoolean(text: string): ParsedValue {
  return text === "true" || text === "false"
    ? { value: text }
    : no(`${quote(text)} is neither true nor false`, "write true or false");
}

function parseSeccomp(text: string): ParsedValue {
  if (["disabled", "strict", "filter"].includes(text)) return { value: text };
  return no(`${quote(text)} is not a seccomp mode`, "write disabled, strict or filter");
}

function no(fault: string, remedy: string): { fault: string; remedy: string } {
  return { fault, remedy };
}
