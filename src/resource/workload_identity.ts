// kind: WorkloadIdentity. Which processes get which SPIFFE ID, and what their X509-SVID holds.
import { RiprapError } from "../error.ts";
import { parseTemplate, type TemplatePart } from "../id_template.ts";
import { isReservedPath } from "../reserved_id.ts";
import type { Delivery, Scope, WorkloadIdentity } from "../resource.ts";
import { SpiffeId } from "../spiffe_id.ts";
import { checkDnsName } from "./dns_name.ts";
import type { Head } from "./document.ts";
import type { Field, FieldMap } from "./field.ts";
import { quote } from "./field.ts";
import { labelRemedy, labelRule } from "./label.ts";
import { checkSelectors } from "./selector.ts";

/** Shorter, and an SVID ends before a renewal at half life has come round a slow node. */
export const TTL_SECONDS_MIN = 10;
/** The design's promise: SVIDs of an hour or less. */
export const TTL_SECONDS_MAX = 3600;
const DNS_NAMES_MAX = 32;

const SCOPES: Readonly<Record<string, Scope["type"]>> = {
  node: "node",
  agent: "node",
  daemon: "node",
  nodeGroup: "group",
  agentGroup: "group",
  daemonGroup: "group",
};

export function checkWorkloadIdentity(spec: FieldMap, head: Head): WorkloadIdentity | undefined {
  spec.refuseUnknown(["workloadID", "selectors", "scope", "svid"]);
  const workloadId = withField(spec.required("workloadID"), checkWorkloadId);
  const selectors = withField(spec.required("selectors"), checkSelectors);
  const scope = withField(spec.optional("scope"), checkScope);
  const x509 = spec.optional("svid")?.map(["x509"])?.optional("x509")?.map(["ttl", "dnsNames", "delivery"]);
  const ttlSeconds = withField(x509?.optional("ttl"), checkTtl);
  const dnsNames = withField(x509?.optional("dnsNames"), checkDnsNames) ?? [];
  const delivery = withField(x509?.optional("delivery"), checkDelivery) ?? "kernel";
  if (workloadId === undefined || selectors === undefined) return undefined;
  return { kind: "WorkloadIdentity", ...head, workloadId, selectors, ttlSeconds, dnsNames, delivery, scope };
}

function withField<T>(field: Field | undefined, check: (field: Field) => T): T | undefined {
  return field === undefined ? undefined : check(field);
}

/** The path below the trust domain. A whole SPIFFE ID must be of this trust domain. */
function checkWorkloadId(field: Field): string | undefined {
  const text = field.string();
  if (text === undefined) return undefined;
  const root = `${field.trustDomain.id}/`;
  if (text.startsWith("spiffe:") && !text.startsWith(root)) {
    const message = `${quote(text)} is outside the trust domain ${field.trustDomain}`;
    return field.error({
      code: "id_outside_trust_domain",
      message,
      remedy: `begin it with ${root}, or write the path alone`,
    });
  }
  const path = text.startsWith(root) ? text.slice(root.length) : text;
  try {
    const parts = parseTemplate(path);
    if (!parts.every((part) => checkTemplateLabel(part, field))) return undefined;
    // Every label stands for one segment-safe word, so a word in its place shows whether the rest is right.
    SpiffeId.parse(root + parts.map((part) => ("label" in part ? "x" : part.text)).join(""));
    if (!isReservedPath(path)) return path;
    const message = `${quote(path)} is among the IDs that are the daemon's own`;
    return field.error({ code: "id_reserved", message, remedy: "begin it with another word than riprap" });
  } catch (error) {
    if (!(error instanceof RiprapError)) throw error;
    const remedy = "write a path like team/agent-[process:uid], without a slash at either end";
    return field.error({ code: "id_invalid", message: error.message, remedy });
  }
}

function checkTemplateLabel(part: TemplatePart, field: Field): boolean {
  if (!("label" in part)) return true;
  const rule = labelRule(part.label);
  if (rule === undefined) {
    field.error({
      code: "label_unknown",
      message: `no process has a label ${quote(part.label)}`,
      remedy: labelRemedy(part.label),
    });
  } else if (!rule.fitsPath) {
    const message = `the value of ${part.label} can never be a part of a SPIFFE ID`;
    field.error({ code: "id_invalid", message, remedy: "use process:name, process:uid or the like" });
  } else if (!rule.isSingle && /^process:/.test(part.label)) {
    field.warn({
      code: "id_fragile",
      message: `a process with two values of ${part.label} is refused`,
      remedy: "use process:uid or the like",
    });
  }
  return rule?.fitsPath === true;
}

function checkScope(field: Field): Scope | undefined {
  const map = field.map(Object.keys(SCOPES));
  const [first, second] = map?.entries ?? [];
  const type = first === undefined ? undefined : SCOPES[first.key];
  if (map === undefined) return undefined;
  if (first === undefined || second !== undefined) {
    return field.error({
      code: "field_invalid",
      message: "a scope names one thing",
      remedy: "write one of node: or nodeGroup: with an id",
    });
  }
  const id = first.value.map(["id"])?.required("id")?.string();
  return type === undefined || id === undefined ? undefined : { type, id };
}

const DURATION = /^(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?$/;

/** Seconds of `1h`, `90m`, `20s` or `1h30m`. */
function checkTtl(field: Field): number | undefined {
  const text = field.text();
  if (text === undefined) return undefined;
  const [, hours = "0", minutes = "0", seconds = "0"] = DURATION.exec(text) ?? [];
  const total = Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
  if (!DURATION.test(text)) {
    const message = `${quote(text)} is not a duration`;
    return field.error({ code: "field_invalid", message, remedy: "write it like 1h, 30m or 3600s, with its unit" });
  }
  if (total >= TTL_SECONDS_MIN && total <= TTL_SECONDS_MAX) return total;
  const message = `${quote(text)} is not between ${TTL_SECONDS_MIN}s and 1h`;
  return field.error({
    code: "field_invalid",
    message,
    remedy: "SVIDs are renewed by themselves at half life: choose a short life",
  });
}

function checkDelivery(field: Field): Delivery | undefined {
  const text = field.string();
  if (text === undefined || text === "kernel" || text === "workload-api") return text;
  return field.error({
    code: "field_invalid",
    message: `${quote(text)} is no way to deliver an SVID`,
    remedy: "write kernel, or workload-api for a program that must hold its private key itself",
  });
}

function checkDnsNames(field: Field): string[] | undefined {
  const items = field.list();
  if (items === undefined) return undefined;
  if (items.length > DNS_NAMES_MAX) {
    return field.error({
      code: "field_invalid",
      message: `more than ${DNS_NAMES_MAX} names`,
      remedy: "keep the names in use",
    });
  }
  return [...new Set(items.map((item) => checkDnsName(item)).filter((name) => name !== undefined))];
}
