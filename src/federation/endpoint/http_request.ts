// What a client of the endpoints asks for: GET and HEAD of a path, without a body. All else has a status of its own. Pure.

import { type HttpHead, onlyHeader, parseLength, readHead } from "./http_head.ts";

export interface HttpRequest {
  readonly method: "GET" | "HEAD";
  /** Path and query, beginning with a slash. */
  readonly target: string;
  readonly host: string;
}

export type RequestReading =
  | { readonly state: "more" }
  | { readonly state: "whole"; readonly request: HttpRequest }
  | { readonly state: "refused"; readonly status: RefusalStatus; readonly fact: string };

export type RefusalStatus = 400 | 405 | 413 | 431 | 505;

/** RFC 9112 sections 3 and 6. */
export function readRequest(bytes: Uint8Array): RequestReading {
  const reading = readHead(bytes);
  if (reading.state === "more") return reading;
  if (reading.state === "refused") return refuse(reading.isTooLarge ? 431 : 400, reading.fact);
  const { head } = reading;
  const [, method = "", target = "", version] = /^([A-Z]{1,16}) (\S+) HTTP\/(\d\.\d)$/.exec(head.startLine) ?? [];
  if (version === undefined) return refuse(400, "its first line is no request");
  if (version !== "1.1" && version !== "1.0") return refuse(505, "only HTTP/1.1 is spoken here");
  if (method !== "GET" && method !== "HEAD") return refuse(405, "only GET and HEAD are answered");
  if (!target.startsWith("/") || target.startsWith("//")) return refuse(400, "its target is no path");
  const host = onlyHeader(head, "host");
  if (host === false || (host === undefined && version === "1.1") || /[^A-Za-z0-9.:[\]_-]/.test(host ?? ""))
    return refuse(400, "it has no host, or more than one");
  const fault = bodyFault(head);
  return fault ?? { state: "whole", request: { method, target, host: host ?? "" } };
}

/** A body that nobody reads would be taken for the next request. */
function bodyFault(head: HttpHead): RequestReading | undefined {
  if (head.headers.has("transfer-encoding")) return refuse(413, "it has a body");
  const length = onlyHeader(head, "content-length");
  if (length === undefined) return undefined;
  if (length === false || parseLength(length, Number.MAX_SAFE_INTEGER) === false)
    return refuse(400, "its length is malformed");
  return Number(length) === 0 ? undefined : refuse(413, "it has a body");
}

function refuse(status: RefusalStatus, fact: string): RequestReading {
  return { state: "refused", status, fact };
}
