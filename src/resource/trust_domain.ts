// kind: TrustDomain. Another trust domain whose workloads may be spoken with: its name, its first bundle, and where newer ones come from.

import { isAbsolute } from "node:path";
import { parseEndpointUrl } from "../endpoint_url.ts";
import { RiprapError } from "../error.ts";
import type { BundleEndpoint, FirstBundle, ForeignTrustDomain } from "../resource.ts";
import { SpiffeId, TrustDomain } from "../spiffe_id.ts";
import { parseTrustBundle } from "../trust_bundle.ts";
import type { Head } from "./document.ts";
import type { Field, FieldMap } from "./field.ts";
import { quote } from "./field.ts";

const PROFILES = ["https_web", "https_spiffe"] as const;
const FINGERPRINT = /^sha256:[0-9a-f]{64}$/;

export function checkTrustDomain(spec: FieldMap, head: Head): ForeignTrustDomain | undefined {
  spec.refuseUnknown(["trustDomain", "bundle", "endpoint"]);
  const nameField = spec.required("trustDomain");
  const trustDomain = nameField === undefined ? undefined : checkName(nameField);
  const bundleField = spec.optional("bundle");
  const endpointField = spec.optional("endpoint");
  if (trustDomain === undefined) return undefined;
  const bundle = bundleField === undefined ? {} : checkBundle(bundleField, trustDomain);
  const endpoint = endpointField === undefined ? undefined : checkEndpoint(endpointField);
  if (bundle === undefined || (endpointField !== undefined && endpoint === undefined)) return undefined;
  return { kind: "TrustDomain", ...head, trustDomain, bundle, endpoint };
}

/** Section 7.2 of SPIFFE Federation: it is told, never made of the URL. */
function checkName(field: Field): TrustDomain | undefined {
  const text = field.string();
  if (text === undefined) return undefined;
  const remedy = "write the bare name, like partner.example";
  const trustDomain = TrustDomain.tryParse(text);
  if (trustDomain === undefined)
    return field.error({ code: "trust_domain_invalid", message: `${quote(text)} is no trust domain`, remedy });
  if (!trustDomain.equals(field.trustDomain)) return trustDomain;
  const message = `${quote(text)} is this node's own trust domain`;
  return field.error({ code: "trust_domain_own", message, remedy: "name another one, or remove the document" });
}

function checkBundle(field: Field, trustDomain: TrustDomain): FirstBundle | undefined {
  const map = field.map(["file", "inline", "fingerprint"]);
  if (map === undefined) return undefined;
  if (map.entries.length === 0 || (map.has("file") && map.has("inline"))) {
    const remedy = "name file: or inline:, and fingerprint: if you have compared it";
    return field.error({ code: "field_invalid", message: "a first bundle is in one place", remedy });
  }
  const file = check(map, "file", checkFile);
  const inline = check(map, "inline", (inner) => checkInline(inner, trustDomain));
  const fingerprint = check(map, "fingerprint", checkFingerprint);
  const isWhole = [file, inline, fingerprint].every((part) => part !== "wrong");
  if (!isWhole) return undefined;
  return { file, inline, fingerprint } as FirstBundle;
}

/** Undefined where it is not there. */
function check<T>(map: FieldMap, name: string, read: (field: Field) => T | undefined): T | undefined | "wrong" {
  if (!map.has(name)) return undefined;
  const field = map.optional(name);
  return (field === undefined ? undefined : read(field)) ?? "wrong";
}

function checkFile(field: Field): string | undefined {
  const text = field.string();
  if (text === undefined || (isAbsolute(text) && !text.includes("\0"))) return text;
  const message = `${quote(text)} is not an absolute path`;
  return field.error({ code: "field_invalid", message, remedy: "write the whole path, from the first slash" });
}

function checkInline(field: Field, trustDomain: TrustDomain): string | undefined {
  const text = field.string();
  if (text === undefined) return undefined;
  try {
    parseTrustBundle(text, trustDomain);
    return text;
  } catch (thrown) {
    if (!(thrown instanceof RiprapError)) throw thrown;
    const remedy = "paste the JSON of the other side's `riprap bundle show --format spiffe` after `inline: |`";
    return field.error({ code: thrown.code, message: thrown.message, remedy });
  }
}

function checkFingerprint(field: Field): string | undefined {
  const text = field.string();
  if (text === undefined || FINGERPRINT.test(text)) return text;
  const remedy = "write sha256: and the 64 digits that `riprap bundle show` prints on the other side";
  return field.error({ code: "field_invalid", message: `${quote(text)} is no fingerprint of a bundle`, remedy });
}

function checkEndpoint(field: Field): BundleEndpoint | undefined {
  const map = field.map(["url", "profile", "spiffeID"]);
  if (map === undefined) return undefined;
  const url = withField(map.required("url"), checkUrl);
  const profile = withField(map.required("profile"), (inner) => inner.oneOf(PROFILES));
  if (profile === "https_web" && map.has("spiffeID")) {
    // Section 5.2.1.2: the profile takes no parameters.
    const message = "an endpoint of profile https_web is known by its host name alone";
    return field.error({ code: "rule_contradicts", message, remedy: "remove spiffeID, or write https_spiffe" });
  }
  if (profile !== "https_spiffe") return url === undefined || profile === undefined ? undefined : { url, profile };
  const spiffeId = withField(map.required("spiffeID"), checkSpiffeId);
  return url === undefined || spiffeId === undefined ? undefined : { url, profile, spiffeId };
}

function checkUrl(field: Field): URL | undefined {
  const text = field.string();
  if (text === undefined) return undefined;
  try {
    return parseEndpointUrl(text);
  } catch (thrown) {
    if (!(thrown instanceof RiprapError)) throw thrown;
    const remedy = "write it like https://spiffe.partner.example/bundle";
    return field.error({ code: thrown.code, message: thrown.message, remedy });
  }
}

function checkSpiffeId(field: Field): SpiffeId | undefined {
  const text = field.string();
  const id = SpiffeId.tryParse(text ?? "");
  if (text === undefined || (id !== undefined && id.path !== "")) return id;
  const message = `${quote(text)} is no SPIFFE ID of a workload`;
  const remedy = "write the whole ID, like spiffe://partner.example/riprap/bundle-endpoint";
  return field.error({ code: "id_invalid", message, remedy });
}

function withField<T>(field: Field | undefined, read: (field: Field) => T): T | undefined {
  return field === undefined ? undefined : read(field);
}
