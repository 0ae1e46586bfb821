// What only the whole set shows: names given twice, references to nothing, rules that contradict one another.

import type { IdPattern } from "../id_pattern.ts";
import { prefixesOf } from "../id_pattern.ts";
import { parseTemplate } from "../id_template.ts";
import { intersectPorts } from "../port_range.ts";
import type {
  AccessPolicy,
  PolicyRule,
  Resource,
  ResourceSet,
  Service,
  Source,
  WorkloadIdentity,
} from "../resource.ts";
import type { TrustDomain } from "../spiffe_id.ts";
import { checkAmbiguity } from "./ambiguity.ts";
import { checkFederation } from "./federation.ts";
import { quote } from "./field.ts";
import type { ProblemList } from "./problem.ts";

/** The set without its warnings, which are in `problems`. Only to be used when `problems` has no error. */
export function checkSet(
  resources: readonly Resource[],
  trustDomain: TrustDomain,
  problems: ProblemList,
): Omit<ResourceSet, "warnings"> {
  checkNames(resources, problems);
  const identities = resources.filter((resource) => resource.kind === "WorkloadIdentity").sort(byName);
  const policies = resources.filter((resource) => resource.kind === "AccessPolicy").sort(byName);
  const services = new Map<string, Service>();
  for (const resource of resources) if (resource.kind === "Service") services.set(resource.name, resource);
  const trustDomains = resources.filter((resource) => resource.kind === "TrustDomain").sort(byName);
  const nodeGroups = resources.filter((resource) => resource.kind === "NodeGroup").sort(byName);
  checkAmbiguity(identities, problems);
  // A reference to a document that was refused would be a second complaint about one fault.
  if (problems.errors.length === 0) {
    for (const policy of policies) checkRules(policy, services, problems);
    checkWorkloads(policies, identities, { trustDomain, problems });
    checkFederation({ trustDomain, trustDomains, policies }, problems);
  }
  return { trustDomain, identities, services, policies, trustDomains, nodeGroups };
}

function byName(a: Resource, b: Resource): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

function checkNames(resources: readonly Resource[], problems: ProblemList): void {
  const seen = new Map<string, Source>();
  for (const { kind, name, source } of resources) {
    const first = seen.get(`${kind}/${name}`);
    if (first !== undefined) {
      const message = `${kind} ${quote(name)} is there already, at ${first.file}:${first.line}`;
      const remedy = "rename or remove one of them";
      problems.error({ ...source, code: "name_twice", field: "metadata.name", message, remedy });
    }
    seen.set(`${kind}/${name}`, source);
  }
}

function checkRules(policy: AccessPolicy, services: ReadonlyMap<string, Service>, problems: ProblemList): void {
  for (const direction of ["egress", "ingress"] as const) {
    for (const [i, rule] of (policy[direction] ?? []).entries()) {
      for (const [j, end] of rule.ends.entries()) {
        if (end.service === undefined) continue;
        const field = `spec.${direction}[${i}].${direction === "egress" ? "to" : "from"}[${j}].service`;
        checkServiceUse(end.service, rule, {
          services,
          hasPeer: end.peers.length > 0,
          complain: complainer(problems, rule, field),
        });
      }
    }
  }
}

type Complain = (code: string, message: string, remedy: string) => void;

function complainer(problems: ProblemList, rule: PolicyRule, field: string): Complain {
  return (code, message, remedy) => problems.error({ ...rule.source, code, field, message, remedy });
}

interface ServiceUse {
  readonly services: ReadonlyMap<string, Service>;
  readonly hasPeer: boolean;
  readonly complain: Complain;
}

function checkServiceUse(name: string, rule: PolicyRule, { services, hasPeer, complain }: ServiceUse): void {
  const service = services.get(name);
  if (service === undefined) {
    complain("service_unknown", `there is no Service ${quote(name)}`, "add the Service, or correct the name");
    return;
  }
  if (rule.action === "allow" && hasPeer && (rule.tls ?? service.tls) !== "mutual") {
    const message = `Service ${quote(name)} is tls ${service.tls}, where no peer is ever known`;
    complain("rule_contradicts", message, "remove peer, or write tls: mutual");
  }
  if (service.addresses.every(({ ports }) => intersectPorts(ports, rule.ports) === undefined)) {
    complain(
      "ports_empty",
      `Service ${quote(name)} has none of the ports of this rule`,
      "remove ports, or name a port of the service",
    );
  }
}

/** A policy for an ID that nothing gives is likely a misspelling, and protects nothing. */
function checkWorkloads(
  policies: readonly AccessPolicy[],
  identities: readonly WorkloadIdentity[],
  { trustDomain, problems }: { trustDomain: TrustDomain; problems: ProblemList },
): void {
  const given = new GivenIds(`${trustDomain.id}/`, identities);
  for (const policy of policies) {
    for (const [i, pattern] of policy.workloads.entries()) {
      if (given.has(pattern)) continue;
      const message = `no WorkloadIdentity gives ${pattern.text}${pattern.match === "prefix" ? "*" : ""}`;
      const place = { ...policy.source, code: "workload_unknown", field: `spec.workloads[${i}]` };
      problems.warn({ ...place, message, remedy: "correct the ID, or add the WorkloadIdentity" });
    }
  }
}

/** Which IDs the identities can give. Takes a segment with a label for any segment: this serves a warning alone. */
class GivenIds {
  readonly #whole = new Set<string>();
  readonly #prefixes = new Set<string>();
  /** Segments of IDs with labels; undefined: any. */
  readonly #open: (readonly (string | undefined)[])[] = [];

  constructor(root: string, identities: readonly WorkloadIdentity[]) {
    for (const { workloadId } of identities) {
      // No part of an ID has this character, and a label's name may have slashes.
      const text =
        root +
        parseTemplate(workloadId)
          .map((part) => ("text" in part ? part.text : "["))
          .join("");
      if (text.includes("["))
        this.#open.push(text.split("/").map((segment) => (segment.includes("[") ? undefined : segment)));
      else this.#whole.add(text);
      for (const prefix of prefixesOf(text)) this.#prefixes.add(prefix);
    }
  }

  has({ text, match }: IdPattern): boolean {
    if (match === "exact" ? this.#whole.has(text) : this.#prefixes.has(text)) return true;
    const segments = (match === "exact" ? text : text.slice(0, -1)).split("/");
    return this.#open.some(
      (open) =>
        (match === "exact" ? open.length === segments.length : open.length > segments.length) &&
        segments.every((segment, i) => open[i] === undefined || open[i] === segment),
    );
  }
}
