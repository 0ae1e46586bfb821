// Parses what a client of the control API sends: query values, path values and bodies, each within a bound.

import { RiprapError } from "../../error.ts";
import { PID_MAX } from "../../pid.ts";

/** A whole rules directory in one YAML stream is some hundreds of KiB; more is a mistake or an attack on memory. */
export const APPLY_BYTES_MAX = 4 * 1024 * 1024;
/** A flow is about 700 bytes of JSON: an answer stays under 8 MiB. */
export const FLOWS_MAX = 10_000;
export const FLOWS_DEFAULT = 200;
/** Longer than any start; a client that wants more asks again. */
export const WAIT_MS_MAX = 600_000;
/** A SPIFFE ID is at most 2048 bytes, and the longest text asked for. */
const TEXT_CHARS_MAX = 2_100;

/** `1` and `true` are yes; absent, `0` and `false` are no. Throws `invalid`. */
export function parseFlag(text: string | undefined): boolean {
  if (text === undefined || text === "0" || text === "false") return false;
  if (text === "" || text === "1" || text === "true") return true;
  throw invalid(`"${shorten(text)}" is neither 1 nor 0`);
}

export function parseCount(text: string | undefined): number {
  if (text === undefined) return FLOWS_DEFAULT;
  return parseInteger(text, { name: "limit", min: 1, max: FLOWS_MAX });
}

export function parsePid(text: string): number {
  return parseInteger(text, { name: "PID", min: 1, max: PID_MAX });
}

/** Milliseconds; 0 when absent. */
export function parseWait(text: string | undefined): number {
  return text === undefined ? 0 : parseInteger(text, { name: "wait_ms", min: 0, max: WAIT_MS_MAX });
}

/** A query value that must be there. */
export function parseText(text: string | undefined, name: string): string {
  if (text === undefined || text === "") throw invalid(`the query has no "${name}"`);
  if (text.length > TEXT_CHARS_MAX) throw invalid(`"${name}" is longer than ${TEXT_CHARS_MAX} characters`);
  return text;
}

/** The body as UTF-8 text of at most `bytesMax` bytes, read no further than that. Throws `too_large`, `not_utf8`. */
export async function readBody(request: Request, bytesMax: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  if (Number(request.headers.get("content-length") ?? 0) > bytesMax) throw tooLarge(bytesMax);
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength;
    if (size > bytesMax) throw tooLarge(bytesMax);
    chunks.push(chunk);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
  } catch (cause) {
    throw new RiprapError("not_utf8", "Cannot read the document: it is not UTF-8 text", { cause });
  }
}

function parseInteger(text: string, bound: { name: string; min: number; max: number }): number {
  const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= bound.min && value <= bound.max) return value;
  throw invalid(`${bound.name} "${shorten(text)}" is not a whole number from ${bound.min} to ${bound.max}`);
}

function invalid(fact: string): RiprapError {
  return new RiprapError("invalid", `Cannot read the request: ${fact}`);
}

function tooLarge(bytesMax: number): RiprapError {
  return new RiprapError(
    "too_large",
    `Cannot read the document: it is larger than ${bytesMax} bytes; apply it in parts`,
  );
}

function shorten(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}
