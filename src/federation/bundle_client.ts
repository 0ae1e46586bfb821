// Fetches the bundle document of a trust domain (SPIFFE Federation sections 5.2.1.4 and 5.2.2.4): follows redirects, judges what came. How it is asked is the caller's.

import { parseEndpointUrl } from "../endpoint_url.ts";
import { RiprapError } from "../error.ts";
import { BUNDLE_BYTES_MAX } from "../trust_bundle.ts";
import type { HttpResponse } from "./endpoint/http_response.ts";

export const REDIRECTS_MAX = 5;
/** Section 5.2.1.3 says that it should be application/json; servers of plain files cannot always. A page for people is none. */
const TYPES = new Set(["application/json", "application/jwk-set+json", "application/octet-stream", "text/plain"]);
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** Asks one URL, with the checks of the endpoint's profile; each redirect goes through the same. */
export type Exchange = (url: URL) => Promise<HttpResponse>;

/**
 * The document, always asked for at `url`, wherever it led before. RiprapError `endpoint_refused` for an answer that is none, `redirect_refused`,
 * and whatever `exchange` throws.
 */
export async function fetchBundleDocument(url: URL, exchange: Exchange): Promise<string> {
  const seen = new Set<string>();
  for (let next = url; ; ) {
    seen.add(next.href);
    const response = await exchange(next);
    if (!REDIRECTS.has(response.status)) return documentOf(next, response);
    next = targetOf(next, response);
    if (seen.has(next.href)) throw refusedRedirect(next, "it leads in a circle");
    if (seen.size > REDIRECTS_MAX) throw refusedRedirect(next, `it is the ${seen.size}th in a row`);
  }
}

/** The target must be an endpoint URL itself. */
function targetOf(from: URL, { headers }: HttpResponse): URL {
  const [location, ...others] = headers.get("location") ?? [];
  if (location === undefined || others.length > 0)
    throw new RiprapError(
      "redirect_refused",
      `Cannot follow the redirect of ${from.href}: it names no place, or several`,
    );
  try {
    return parseEndpointUrl(location, from);
  } catch (thrown) {
    const fact = thrown instanceof RiprapError ? thrown.message : String(thrown);
    throw new RiprapError("redirect_refused", `Cannot follow the redirect of ${from.href}: ${fact}`, { cause: thrown });
  }
}

function documentOf(url: URL, { status, headers, body }: HttpResponse): string {
  if (status !== 200) throw refused(url, `it answered with status ${status}`);
  const [type = "application/json"] = headers.get("content-type") ?? [];
  const [essence = "", ...parameters] = type
    .toLowerCase()
    .split(";")
    .map((part) => part.trim());
  if (!TYPES.has(essence))
    throw refused(url, `it answered with ${JSON.stringify(essence.slice(0, 60))}, not with JSON`);
  const charset = parameters
    .find((part) => part.startsWith("charset="))
    ?.slice("charset=".length)
    .replaceAll('"', "");
  if (charset !== undefined && charset !== "utf-8" && charset !== "us-ascii")
    throw refused(url, `it answered in ${JSON.stringify(charset.slice(0, 60))}, not in UTF-8`);
  if (headers.has("content-encoding")) throw refused(url, "it answered in a coding that was not asked for");
  if (body.length > BUNDLE_BYTES_MAX) throw refused(url, `its answer is larger than ${BUNDLE_BYTES_MAX} bytes`);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch (cause) {
    throw new RiprapError("endpoint_refused", `Cannot use the answer of ${url.href}: it is not UTF-8`, { cause });
  }
}

function refused(url: URL, fact: string): RiprapError {
  return new RiprapError("endpoint_refused", `Cannot use the answer of ${url.href}: ${fact}`);
}

function refusedRedirect(url: URL, fact: string): RiprapError {
  return new RiprapError("redirect_refused", `Cannot follow the redirect to ${url.href}: ${fact}`);
}
