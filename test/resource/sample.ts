// Documents for tests, loaded by the real loader. JSON is YAML, so a document is written as a value.
import { parseResources, ResourceError, type ResourceProblem, type ResourceSet } from "../../src/resource.ts";
import { TrustDomain } from "../../src/spiffe_id.ts";

export const trustDomain = TrustDomain.parse("edge.test");

export function identity(name: string, spec: unknown): unknown {
  return { apiVersion: "riprap.io/v1", kind: "WorkloadIdentity", metadata: { name }, spec };
}

export function service(name: string, spec: unknown): unknown {
  return { apiVersion: "riprap.io/v1", kind: "Service", metadata: { name }, spec };
}

export function accessPolicy(name: string, spec: unknown): unknown {
  return { apiVersion: "riprap.io/v1", kind: "AccessPolicy", metadata: { name }, spec };
}

export function foreignDomain(name: string, spec: unknown): unknown {
  return { apiVersion: "riprap.io/v1", kind: "TrustDomain", metadata: { name }, spec };
}

export function loadDocuments(...documents: readonly unknown[]): ResourceSet {
  return loadText(documents.map((document) => JSON.stringify(document)).join("\n---\n"));
}

export function loadText(text: string): ResourceSet {
  return parseResources([{ file: "rules.yaml", text }], { trustDomain });
}

/** What is wrong with it; an empty list when it loads. */
export function problemsOf(load: () => ResourceSet): readonly ResourceProblem[] {
  try {
    load();
    return [];
  } catch (error) {
    if (error instanceof ResourceError) return error.problems;
    throw error;
  }
}

/** `field: code` of each problem. */
export function faultsOf(...documents: readonly unknown[]): string[] {
  return problemsOf(() => loadDocuments(...documents)).map(({ field, code }) => `${field}: ${code}`);
}
