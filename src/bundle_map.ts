// A SPIFFE bundle map (Trust Domain and Bundle, section 5): trust bundles of several trust domains in one document, written and read. Never joins them.

import { RiprapError } from "./error.ts";
import { isJsonObject, type JsonObject, type JsonValue, parseJsonObject, writeJson } from "./json.ts";
import { TrustDomain } from "./spiffe_id.ts";
import {
  BUNDLE_BYTES_MAX,
  KEYS_MAX,
  type ParsedBundle,
  parseTrustBundle,
  type TrustBundle,
  writeTrustBundle,
} from "./trust_bundle.ts";

/** All of it is read before anything of it counts, so that it has the bounds of one bundle. */
export const MAP_BYTES_MAX = BUNDLE_BYTES_MAX;
/** Sixteen times the trust domains that the rules may name. */
const DOMAINS_MAX = 4096;

export interface MappedBundle {
  readonly bundle: ParsedBundle;
  /** As the map has it, but for its refresh hint. */
  readonly document: string;
}

/**
 * Reads a bundle map as a whole: one trust domain that is there twice, or one bundle that cannot be read, and nothing of it is good. Refresh hints in
 * it say nothing (section 5.1.1). RiprapError `bundle_map_invalid`.
 */
export function parseBundleMap(text: string): readonly MappedBundle[] {
  if (Buffer.byteLength(text) > MAP_BYTES_MAX) throw invalid(`it is longer than ${MAP_BYTES_MAX >> 20} MiB`);
  const entries = Object.entries(domainsOf(text));
  if (entries.length > DOMAINS_MAX) throw invalid(`it has more than ${DOMAINS_MAX} trust domains`);
  if (entries.reduce((sum, [, entry]) => sum + countKeys(entry), 0) > KEYS_MAX)
    throw invalid(`it has more than ${KEYS_MAX} keys`);
  return entries.map(([name, entry]) => readEntry(name, entry));
}

/** Each bundle under its trust domain's name, without its refresh hint. RangeError when a trust domain is there twice. */
export function writeBundleMap(bundles: readonly TrustBundle[]): string {
  const names = bundles.map(({ trustDomain }) => trustDomain.name);
  if (new Set(names).size < names.length) throw new RangeError("a bundle map has each trust domain once");
  const entries = bundles.map(
    (bundle, index) =>
      `${JSON.stringify(names[index])}: ${writeTrustBundle({ ...bundle, refreshHintSeconds: undefined })}`,
  );
  return `{"trust_domains": {${entries.join(",\n")}}}\n`;
}

function domainsOf(text: string): JsonObject {
  const { trust_domains: domains, keys } = parseJsonObject(text, invalid);
  if (isJsonObject(domains)) return domains;
  const hint = keys === undefined ? "" : ": it is the bundle of one trust domain, for `riprap bundle set`";
  throw invalid(`it has no object trust_domains${hint}`);
}

/** Before any of them is looked at: what is passed over costs a sentence each. */
function countKeys(entry: JsonValue): number {
  const keys = isJsonObject(entry) ? entry["keys"] : undefined;
  return Array.isArray(keys) ? keys.length : 0;
}

function readEntry(name: string, entry: JsonValue): MappedBundle {
  try {
    const trustDomain = TrustDomain.parse(name);
    const document = writeJson(withoutHint(entry));
    return { bundle: parseTrustBundle(document, trustDomain), document };
  } catch (cause) {
    if (!(cause instanceof RiprapError)) throw cause;
    throw invalid(`in trust_domains[${JSON.stringify(name.slice(0, 60))}]: ${cause.message}`, cause);
  }
}

function withoutHint(entry: JsonValue): JsonValue {
  if (!isJsonObject(entry)) return entry;
  const { spiffe_refresh_hint: _, ...rest } = entry;
  return rest;
}

function invalid(fact: string, cause?: unknown): RiprapError {
  const remedy = "nothing of it is taken; have it written anew, or take its bundles one by one";
  return new RiprapError("bundle_map_invalid", `Cannot read the bundle map: ${fact}; ${remedy}`, { cause });
}
