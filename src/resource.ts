// Rules as people write them, turned into values that cannot be wrong. Reads YAML files; never asks the network or a process.
import type { AddressPrefix } from "./address.ts";
import { RiprapError } from "./error.ts";
import type { IdPattern } from "./id_pattern.ts";
import type { PortRange } from "./port_range.ts";
import { checkSet } from "./resource/cross_check.ts";
import { checkDocument } from "./resource/document.ts";
import { ProblemList } from "./resource/problem.ts";
import { boundTexts, readSources } from "./resource/read.ts";
import type { SpiffeId, TrustDomain } from "./spiffe_id.ts";
import { type Position, parseYaml } from "./yaml.ts";

/** Documents of one set: a node with one rule for each of its programs stays far below. */
export const DOCUMENTS_MAX = 16_384;

/** Where a resource or a part of it was written. */
export interface Source extends Position {
  readonly file: string;
}

interface Common {
  readonly name: string;
  readonly source: Source;
  /** The YAML document as written, and its value. */
  readonly text: string;
  readonly document: unknown;
}

/** How one label entry of a selector is compared. */
export type LabelMatch = "exact" | "words" | "path";

export interface LabelEntry {
  readonly label: string;
  readonly match: LabelMatch;
  /** Never empty; the entry holds when one of them does. */
  readonly values: readonly string[];
}

/** All entries must hold. Never empty; sorted by label. */
export interface Selector {
  readonly entries: readonly LabelEntry[];
  readonly source: Source;
}

export interface Scope {
  readonly type: "node" | "group";
  readonly id: string;
}

/** Whether a process is ever handed a private key: `kernel` never, `workload-api` one of its own, when it asks for it. */
export type Delivery = "kernel" | "workload-api";

export interface WorkloadIdentity extends Common {
  readonly kind: "WorkloadIdentity";
  /** Path of the SPIFFE ID without its first slash; `[label]` parts are filled from the process. */
  readonly workloadId: string;
  /** One must match. Never empty. */
  readonly selectors: readonly Selector[];
  readonly ttlSeconds: number | undefined;
  readonly dnsNames: readonly string[];
  /** Of the X509-SVID. */
  readonly delivery: Delivery;
  readonly scope: Scope | undefined;
}

export type TlsChoice = "mutual" | "passthrough" | "plain";

export interface ServiceAddress {
  readonly target: { readonly prefix: AddressPrefix } | { readonly dnsName: string } | { readonly workload: SpiffeId };
  /** Empty: any port. */
  readonly ports: readonly PortRange[];
}

export interface Service extends Common {
  readonly kind: "Service";
  readonly labels: ReadonlyMap<string, string>;
  readonly addresses: readonly ServiceAddress[];
  readonly external: boolean;
  /** What a rule that names this service and no `tls` of its own means. */
  readonly tls: TlsChoice;
}

export type Mode = "observe" | "permissive" | "enforce";

/** One entry of `to` or `from`: all that is named must hold. */
export interface Destination {
  readonly service: string | undefined;
  readonly prefix: AddressPrefix | undefined;
  /** Empty: any peer. */
  readonly peers: readonly IdPattern[];
}

export interface PolicyRule {
  /** Empty: anything. */
  readonly ends: readonly Destination[];
  /** Empty: any port. Remote ports of an egress rule, local ports of an ingress rule. */
  readonly ports: readonly PortRange[];
  readonly action: "allow" | "deny";
  readonly tls: TlsChoice | undefined;
  readonly source: Source;
}

export interface AccessPolicy extends Common {
  readonly kind: "AccessPolicy";
  readonly workloads: readonly IdPattern[];
  readonly mode: Mode;
  /** Undefined: the policy says nothing of this direction. Empty: nothing is allowed. */
  readonly egress: readonly PolicyRule[] | undefined;
  readonly ingress: readonly PolicyRule[] | undefined;
}

/** How the one who serves bundles is known: by its name in the web's PKI, or by its SPIFFE ID. */
export type BundleEndpoint =
  | { readonly url: URL; readonly profile: "https_web" }
  | { readonly url: URL; readonly profile: "https_spiffe"; readonly spiffeId: SpiffeId };

/** The bundle that is taken before any other: at most one of file and inline. */
export interface FirstBundle {
  readonly file?: string | undefined;
  /** The text of a SPIFFE bundle document, which can be read. */
  readonly inline?: string | undefined;
  /** `sha256:` and 64 digits: what the first bundle must have, wherever it comes from. */
  readonly fingerprint?: string | undefined;
}

/** Another trust domain: its workloads are known as long as a bundle of it is held. */
export interface ForeignTrustDomain extends Common {
  readonly kind: "TrustDomain";
  /** Never this node's own. */
  readonly trustDomain: TrustDomain;
  readonly bundle: FirstBundle;
  /** Undefined: newer bundles come by a person's command alone. */
  readonly endpoint: BundleEndpoint | undefined;
}

/** Nodes beside those that were enrolled into the group of this name. */
export interface NodeGroup extends Common {
  readonly kind: "NodeGroup";
  /** Names of nodes; one that ends in `*` is every name that begins so. Never empty. */
  readonly nodes: readonly string[];
}

export type Resource = WorkloadIdentity | Service | AccessPolicy | ForeignTrustDomain | NodeGroup;

/** All resources of one generation, checked one by one and against one another. */
export interface ResourceSet {
  readonly trustDomain: TrustDomain;
  /** By name. */
  readonly identities: readonly WorkloadIdentity[];
  readonly services: ReadonlyMap<string, Service>;
  /** By name. */
  readonly policies: readonly AccessPolicy[];
  /** By the name of the resource; each trust domain once. */
  readonly trustDomains: readonly ForeignTrustDomain[];
  /** By name. */
  readonly nodeGroups: readonly NodeGroup[];
  /** Things that load and are likely not meant. */
  readonly warnings: readonly ResourceProblem[];
}

/** One fault, with its place and what to do. */
export interface ResourceProblem extends Source {
  /** Stable, snake_case. */
  readonly code: string;
  /** Dotted path from the top of the document, as `spec.selectors[0].process:uid`; empty for the document itself. */
  readonly field: string;
  readonly message: string;
  readonly remedy: string;
}

/** Every fault that was found in a set of resources; nothing of the set may be used. Code `resource_invalid`. */
export class ResourceError extends RiprapError {
  readonly problems: readonly ResourceProblem[];

  constructor(problems: readonly ResourceProblem[]) {
    super("resource_invalid", `Cannot load resources:\n${problems.map(describeProblem).join("\n")}`);
    this.problems = problems;
  }
}

/** `file:line:column: field: message; remedy`. */
export function describeProblem(problem: ResourceProblem): string {
  const field = problem.field === "" ? "" : `${problem.field}: `;
  return `${problem.file}:${problem.line}:${problem.column}: ${field}${problem.message}; ${problem.remedy}`;
}

/** Text with the name it goes by in messages. */
export interface ResourceText {
  readonly file: string;
  readonly text: string;
}

export interface ResourceOptions {
  readonly trustDomain: TrustDomain;
}

/**
 * Loads one directory (its *.yaml and *.yml files, sorted by name, not those below it; one that is not there is
 * empty) or the named files. Throws ResourceError with all faults found.
 */
export function loadResources(from: string | readonly string[], options: ResourceOptions): ResourceSet {
  const problems = new ProblemList();
  return parseTexts(readSources(from, problems), problems, options);
}

/** The texts of one directory, as `loadResources` reads them, not looked into. Throws ResourceError for a file that cannot be read. */
export function readResourceTexts(directory: string): readonly ResourceText[] {
  const problems = new ProblemList();
  const texts = readSources(directory, problems);
  if (problems.errors.length > 0) throw new ResourceError(problems.errors);
  return texts;
}

/** As `loadResources` for text that is at hand; bounded in the same way. */
export function parseResources(texts: readonly ResourceText[], options: ResourceOptions): ResourceSet {
  const problems = new ProblemList();
  return parseTexts(boundTexts(texts, problems), problems, options);
}

/** All of them: identities, services, policies, trust domains, groups of nodes, each by name. */
export function listResources(resources: ResourceSet): readonly Resource[] {
  const { identities, services, policies, trustDomains, nodeGroups } = resources;
  return [...identities, ...services.values(), ...policies, ...trustDomains, ...nodeGroups];
}

/** Every DNS name that a service gives as its address, sorted: what must be resolved to compile policies. */
export function listDnsNames(resources: ResourceSet): readonly string[] {
  const names = new Set<string>();
  for (const service of resources.services.values()) {
    for (const { target } of service.addresses) if ("dnsName" in target) names.add(target.dnsName);
  }
  return [...names].sort();
}

function parseTexts(texts: readonly ResourceText[], problems: ProblemList, options: ResourceOptions): ResourceSet {
  const resources: Resource[] = [];
  let documents = 0;
  for (const { file, text } of texts) {
    const parsed = parseYaml(text);
    for (const { at, message, remedy } of parsed.faults) {
      problems.error({ file, ...at, code: "yaml_invalid", field: "", message, remedy });
    }
    for (const document of parsed.documents) {
      if (++documents > DOCUMENTS_MAX) break;
      const resource = checkDocument(document, { file, problems, trustDomain: options.trustDomain });
      if (resource !== undefined) resources.push(resource);
    }
  }
  if (documents > DOCUMENTS_MAX) {
    const message = `there are more than ${DOCUMENTS_MAX} documents`;
    const place = { file: texts.at(-1)?.file ?? "", line: 1, column: 1, field: "" };
    problems.error({
      ...place,
      code: "resource_too_many",
      message,
      remedy: "join selectors and rules into fewer documents",
    });
  }
  const set = checkSet(resources, options.trustDomain, problems);
  if (problems.errors.length > 0) throw new ResourceError(problems.errors);
  return { ...set, warnings: problems.warnings };
}
