// What only the whole set shows of other trust domains: one that is there twice, and one that is spoken of and not there.

import type { AccessPolicy, ForeignTrustDomain, Source } from "../resource.ts";
import type { TrustDomain } from "../spiffe_id.ts";
import { quote } from "./field.ts";
import type { ProblemList } from "./problem.ts";

/** Each may bring a bundle of 4 MiB, and is asked for a newer one every few minutes. */
const TRUST_DOMAINS_MAX = 256;

interface Federation {
  readonly trustDomain: TrustDomain;
  readonly trustDomains: readonly ForeignTrustDomain[];
  readonly policies: readonly AccessPolicy[];
}

export function checkFederation(federation: Federation, problems: ProblemList): void {
  const { trustDomains } = federation;
  const known = new Map<string, ForeignTrustDomain>();
  for (const resource of trustDomains) {
    const first = known.get(resource.trustDomain.name);
    if (first === undefined) known.set(resource.trustDomain.name, resource);
    else complainTwice(resource, first, problems);
  }
  for (const resource of trustDomains) checkServer(resource, federation, problems);
  const [extra] = trustDomains.slice(TRUST_DOMAINS_MAX);
  if (extra !== undefined) {
    const message = `there are more than ${TRUST_DOMAINS_MAX} trust domains`;
    const place = { ...extra.source, code: "resource_too_many", field: "" };
    problems.error({ ...place, message, remedy: "remove those that no policy names" });
  }
  warnOfStrangers(federation, new Set([...known.keys(), federation.trustDomain.name]), problems);
}

function complainTwice(resource: ForeignTrustDomain, first: ForeignTrustDomain, problems: ProblemList): void {
  const { file, line }: Source = first.source;
  const message = `the trust domain ${resource.trustDomain} is there already, at ${file}:${line}`;
  const place = { ...resource.source, code: "trust_domain_twice", field: "spec.trustDomain" };
  problems.error({ ...place, message, remedy: "remove one of them: a trust domain has one bundle" });
}

/** SPIFFE Federation section 5.2.2.2: the bundle of the server's own trust domain must come from somewhere. */
function checkServer(
  { endpoint, source }: ForeignTrustDomain,
  { trustDomain, trustDomains }: Federation,
  problems: ProblemList,
): void {
  if (endpoint?.profile !== "https_spiffe") return;
  const server = endpoint.spiffeId.trustDomain;
  if (server.equals(trustDomain) || trustDomains.some((known) => known.trustDomain.equals(server))) return;
  const message = `the endpoint's trust domain ${server} is not known here, so it can never be authenticated`;
  const place = { ...source, code: "trust_domain_unknown", field: "spec.endpoint.spiffeID" };
  problems.error({ ...place, message, remedy: "add a TrustDomain for it, or correct the ID" });
}

function warnOfStrangers(
  { trustDomain, policies }: Federation,
  known: ReadonlySet<string>,
  problems: ProblemList,
): void {
  for (const policy of policies) {
    for (const direction of ["egress", "ingress"] as const) {
      for (const [i, rule] of (policy[direction] ?? []).entries()) {
        const names = rule.ends.flatMap(({ peers }) => peers.map(({ text }) => domainOf(text)));
        for (const name of new Set(names)) {
          if (known.has(name)) continue;
          const message = `peers of ${quote(name)} are outside the trust domain ${trustDomain}, and no TrustDomain names it`;
          const place = { ...rule.source, code: "id_outside_trust_domain", field: `spec.${direction}[${i}]` };
          problems.warn({ ...place, message, remedy: "add a TrustDomain for it: until then they are refused" });
        }
      }
    }
  }
}

/** Of an ID or a prefix, which have a path both. */
function domainOf(text: string): string {
  return text.slice("spiffe://".length, text.indexOf("/", "spiffe://".length));
}
