// kind: AccessPolicy. Who may reach what, and by whom one may be reached.

import { RiprapError } from "../error.ts";
import type { IdPattern } from "../id_pattern.ts";
import type { AccessPolicy, Destination, PolicyRule } from "../resource.ts";
import { SPIFFE_ID_MAX_BYTES, SpiffeId } from "../spiffe_id.ts";
import type { Head } from "./document.ts";
import type { Field, FieldMap } from "./field.ts";
import { quote } from "./field.ts";
import { checkPorts } from "./port.ts";
import { checkPrefix, TLS_CHOICES } from "./service.ts";

const MODES = ["enforce", "permissive", "observe"] as const;
const ACTIONS = ["allow", "deny"] as const;
/** The kernel's table holds 262,144 rules of all policies. */
const ITEMS_MAX = 262_144;

type Direction = "egress" | "ingress";

export function checkAccessPolicy(spec: FieldMap, head: Head): AccessPolicy | undefined {
  spec.refuseUnknown(["workloads", "mode", "egress", "ingress"]);
  const mode = spec.optional("mode")?.oneOf(MODES) ?? "enforce";
  const workloadsField = spec.required("workloads");
  const workloads = workloadsField === undefined ? undefined : checkPatterns(workloadsField, { isOwn: true });
  const egress = checkRules(spec.optional("egress"), "egress");
  const ingress = checkRules(spec.optional("ingress"), "ingress");
  if (!spec.has("egress") && !spec.has("ingress")) {
    const remedy = "add egress:, ingress: or both; an empty list refuses everything";
    return spec.field.error({
      code: "policy_says_nothing",
      message: "the policy has neither egress nor ingress",
      remedy,
    });
  }
  return workloads === undefined ? undefined : { kind: "AccessPolicy", ...head, workloads, mode, egress, ingress };
}

/** One pattern or a list of them. Patterns for `isOwn` must lie in the trust domain. */
function checkPatterns(field: Field, options: { isOwn: boolean }): IdPattern[] | undefined {
  const items = field.listOrOne();
  if (items.length === 0 || items.length > ITEMS_MAX) {
    const message = items.length === 0 ? "the list is empty, so nothing can match" : `more than ${ITEMS_MAX} patterns`;
    return field.error({ code: "field_invalid", message, remedy: "name a SPIFFE ID, or a prefix like team/*" });
  }
  const patterns = items.map((item) => checkPattern(item, options));
  const good = patterns.filter((pattern) => pattern !== undefined);
  return good.length === patterns.length ? good : undefined;
}

function checkPattern(field: Field, options: { isOwn: boolean }): IdPattern | undefined {
  const text = field.string();
  if (text === undefined) return undefined;
  const root = `${field.trustDomain.id}/`;
  const whole = text.startsWith("spiffe:") ? text : root + text;
  const isPrefix = whole.endsWith("/*");
  try {
    const id = SpiffeId.parse(isPrefix ? whole.slice(0, -2) : whole);
    if (!isPrefix && id.path === "")
      return refusePattern(field, `${quote(text)} is a trust domain, which no workload is`);
    if (options.isOwn && !id.isMemberOf(field.trustDomain)) {
      const message = `${quote(text)} is outside the trust domain ${field.trustDomain}`;
      return field.error({ code: "id_outside_trust_domain", message, remedy: `begin it with ${root}` });
    }
    // One byte more than an ID may have, and the kernel refuses the table.
    if (isPrefix && String(id).length >= SPIFFE_ID_MAX_BYTES)
      return refusePattern(field, "no ID is long enough to match it");
    return isPrefix ? { text: `${id}/`, match: "prefix" } : { text: String(id), match: "exact" };
  } catch (error) {
    if (!(error instanceof RiprapError)) throw error;
    return refusePattern(field, error.message);
  }
}

function refusePattern(field: Field, message: string): undefined {
  const remedy = "write an ID like team/agent, a prefix like team/*, * for all, or a whole spiffe:// ID";
  return field.error({ code: "id_invalid", message, remedy });
}

function checkRules(field: Field | undefined, direction: Direction): PolicyRule[] | undefined {
  const items = field?.list();
  return items?.map((item) => checkRule(item, direction)).filter((rule) => rule !== undefined);
}

function checkRule(field: Field, direction: Direction): PolicyRule | undefined {
  const endsName = direction === "egress" ? "to" : "from";
  const map = field.map([endsName, "ports", "action", "tls"]);
  if (map === undefined) return undefined;
  const endsField = map.optional(endsName);
  const ends = endsField === undefined ? [] : checkEnds(endsField, direction);
  const portsField = map.optional("ports");
  const ports = portsField === undefined ? [] : checkPorts(portsField);
  const action = map.optional("action")?.oneOf(ACTIONS) ?? "allow";
  const tls = map.optional("tls")?.oneOf(TLS_CHOICES);
  if (ends === undefined || ports === undefined) return undefined;
  const rule: PolicyRule = { ends, ports, action, tls, source: field.source };
  return isSound(rule, map) ? rule : undefined;
}

/** A peer is known only after a mutual handshake. */
function isSound(rule: PolicyRule, map: FieldMap): boolean {
  const hasPeer = rule.ends.some((end) => end.peers.length > 0);
  if (rule.action === "deny" && rule.tls !== undefined) {
    map.field.error({ code: "rule_contradicts", message: "a rule that denies has no tls", remedy: "remove tls" });
    return false;
  }
  if (hasPeer && rule.tls !== undefined && rule.tls !== "mutual") {
    const message = `a peer is never known with tls ${rule.tls}, so this can never match`;
    map.field.error({
      code: "rule_contradicts",
      message,
      remedy: "write tls: mutual, or name an address in place of the peer",
    });
    return false;
  }
  return true;
}

function checkEnds(field: Field, direction: Direction): Destination[] | undefined {
  const items = field.list();
  if (items === undefined) return undefined;
  if (items.length === 0 || items.length > ITEMS_MAX) {
    const message = items.length === 0 ? "the list is empty, so nothing can match" : `more than ${ITEMS_MAX} entries`;
    return field.error({ code: "field_invalid", message, remedy: "add an entry, or remove the field for anything" });
  }
  const ends = items.map((item) => checkEnd(item, direction));
  const good = ends.filter((end) => end !== undefined);
  return good.length === ends.length ? good : undefined;
}

function checkEnd(field: Field, direction: Direction): Destination | undefined {
  const map = field.map(direction === "egress" ? ["service", "address", "peer"] : ["address", "peer"]);
  if (map === undefined) return undefined;
  if (map.entries.length === 0 || (map.has("service") && map.has("address"))) {
    const remedy =
      direction === "egress"
        ? "name a service, an address, a peer, or a peer with one of the others"
        : "name an address, a peer or both";
    return field.error({ code: "field_invalid", message: "an entry names one place", remedy });
  }
  const serviceField = map.optional("service");
  const addressField = map.optional("address");
  const peerField = map.optional("peer");
  const service = serviceField?.string();
  const orElse = "or give a DNS name to a Service and name that";
  const prefix = addressField === undefined ? undefined : checkPrefix(addressField, orElse);
  const peers = peerField === undefined ? [] : checkPatterns(peerField, { isOwn: false });
  if (map.has("service") && service === undefined) return undefined;
  if (map.has("address") && prefix === undefined) return undefined;
  if (peers === undefined || (map.has("peer") && peers.length === 0)) return undefined;
  return { service, prefix, peers };
}
