// The URL of a bundle endpoint as a value that cannot be wrong (SPIFFE Federation sections 5.2.1.1 and 5.2.2.1). Never asks the network.

import { RiprapError } from "./error.ts";

const URL_CHARS_MAX = 2048;

/** An absolute https URL without user information and fragment. RiprapError `endpoint_url_invalid`. */
export function parseEndpointUrl(text: string, base?: URL): URL {
  const fault = urlFault(text, base);
  if (typeof fault !== "string") return fault;
  const shown = JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
  throw new RiprapError("endpoint_url_invalid", `Cannot use ${shown} as the URL of a bundle endpoint: ${fault}`);
}

function urlFault(text: string, base: URL | undefined): URL | string {
  if (text.length > URL_CHARS_MAX) return `it is longer than ${URL_CHARS_MAX} characters`;
  // What URL() would drop in silence is not what a person has read.
  if (/[^\x21-\x7e]/.test(text)) return "it has a blank or a character outside ASCII";
  if (!URL.canParse(text, base?.href)) return "it is no URL";
  const url = new URL(text, base?.href);
  if (url.protocol !== "https:") return "its scheme is not https";
  if (url.username !== "" || url.password !== "" || /^[a-z]+:\/\/[^/]*@/i.test(text)) return "it has user information";
  if (url.hash !== "" || text.includes("#")) return "it has a fragment";
  return url.hostname === "" ? "it has no host" : url;
}
