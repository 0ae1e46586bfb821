// What would allow a refused connection: a policy to add, as narrow as the question, or what to change instead.
import type { PolicyQuestion, RuleInfo } from "../policy.ts";
import type { Mode, ResourceSet } from "../resource.ts";
import type { TrustDomain } from "../spiffe_id.ts";
import { showRule } from "./name.ts";
import { PolicyIndex } from "./subject.ts";

interface Refusal {
  readonly resources: ResourceSet;
  /** The rule that denies, if one does. */
  readonly denied: RuleInfo | undefined;
  readonly unresolved: string | undefined;
}

/** YAML that allows it when applied beside the rest, or a sentence. */
export function remedyFor(question: PolicyQuestion, refusal: Refusal): string {
  const { denied, unresolved, resources } = refusal;
  if (unresolved !== undefined) {
    return `See that this node can resolve the names of Service ${unresolved}, or give it an address and the port.`;
  }
  if (denied !== undefined) {
    return `Remove or narrow ${showRule(denied)}: deny beats allow, so nothing that is added can allow it.`;
  }
  const isInbound = question.inbound === true;
  const { address, port, service, peer } = question.to;
  const end = [
    ...(service === undefined ? [] : [`service: ${quote(service)}`]),
    ...(address === undefined || service !== undefined ? [] : [`address: ${quote(address)}`]),
    ...(peer === undefined ? [] : [`peer: ${quote(String(peer))}`]),
  ];
  const lines = [
    "apiVersion: riprap.io/v1",
    "kind: AccessPolicy",
    `metadata: { name: ${freeName(question, resources)} }`,
    "spec:",
    `  workloads: [${quote(question.from === undefined ? "" : String(question.from))}]`,
    `  mode: ${modeInForce(question, resources)}`,
    `  ${isInbound ? "ingress" : "egress"}:`,
    `    - ${isInbound ? "from" : "to"}: [{ ${end.join(", ")} }]`,
    ...(port === undefined ? [] : [`      ports: [${port}]`]),
  ];
  return `${lines.join("\n")}\n`;
}

/** What makes another trust domain known. */
export function remedyForStranger(trustDomain: TrustDomain, { trustDomains }: ResourceSet): string {
  const isNamed = trustDomains.some((resource) => resource.trustDomain.equals(trustDomain));
  const set = `riprap bundle set ${trustDomain} FILE`;
  if (isNamed) return `Hold a bundle of it: \`${set}\`, or see in \`riprap bundle list\` why its endpoint gives none.`;
  return `Add a TrustDomain resource for ${trustDomain}, and hold a bundle of it: \`${set}\`.`;
}

/** The mode that holds already: a remedy must not make a direction stricter than it is. */
function modeInForce(question: PolicyQuestion, resources: ResourceSet): Mode {
  const direction = question.inbound === true ? "ingress" : "egress";
  const selecting = question.from === undefined ? [] : new PolicyIndex(resources.policies).select(question.from);
  const modes = selecting.filter((policy) => policy[direction] !== undefined).map((policy) => policy.mode);
  return (["enforce", "permissive", "observe"] as const).find((mode) => modes.includes(mode)) ?? "enforce";
}

/** A name that no policy has, so that applying it replaces none. */
function freeName({ from, to, inbound }: PolicyQuestion, resources: ResourceSet): string {
  const taken = new Set(resources.policies.map((policy) => policy.name));
  const own = lastSegment(String(from ?? ""));
  const other = to.service ?? lastSegment(String(to.peer ?? to.address ?? "")).replaceAll(":", "-");
  const base = `allow-${inbound === true ? `${other}-to-${own}` : `${own}-to-${other}`}`
    .toLowerCase()
    .replaceAll(/[^a-z0-9.-]+/g, "-")
    .slice(0, 200)
    .replace(/[^a-z0-9]+$/, "");
  let name = base;
  for (let i = 2; taken.has(name); i++) name = `${base}-${i}`;
  return name;
}

function lastSegment(text: string): string {
  return text.slice(text.lastIndexOf("/") + 1);
}

/** JSON strings are YAML strings. */
function quote(text: string): string {
  return JSON.stringify(text);
}
