// A resource as a statement carries it: one document as canonical JSON. Writes it, and reads what a right depends on: its kind, its name, whose IDs.
import { RiprapError } from "../error.ts";
import { type FleetScope, writeScope } from "../fleet.ts";
import type { Statement, StatementDraft } from "./statement.ts";

const KINDS = ["WorkloadIdentity", "Service", "AccessPolicy", "NodeGroup", "TrustDomain"];
const NAME = /^[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,251}[a-zA-Z0-9])?$/;

export interface ResourceClaim {
  readonly kind: string;
  readonly name: string;
  /** IDs and prefixes (with '/' at their end) that the resource gives or rules; `any` when it reaches beyond IDs. */
  readonly ids: readonly string[] | "any";
}

export interface ResourceDraft {
  readonly trustDomain: string;
  /** The document as `loadResources` gives it: apiVersion, kind, metadata, spec. */
  readonly document: unknown;
  readonly scope: FleetScope;
  readonly revision: number;
  readonly time: number;
}

/** What an operator signs to set a resource for the fleet. Throws RiprapError `resource_unfit`. */
export function draftResource({ trustDomain, document, scope, revision, time }: ResourceDraft): StatementDraft {
  // Twice: keys that look like numbers are sorted to the front by the first reading.
  const text = JSON.stringify(JSON.parse(JSON.stringify(document)));
  const body = Uint8Array.from(Buffer.from(text));
  const claim = readDocument(trustDomain, text);
  const name = `${claim.kind}/${claim.name}`;
  return { trustDomain, kind: "resource", name, scope: writeScope(scope), revision, time, body };
}

/** The document of a resource statement as text, which is YAML too. */
export function resourceText(statement: Pick<Statement, "body">): string {
  return Buffer.from(statement.body).toString("utf8");
}

/** Throws RiprapError `resource_unfit`. */
export function readResourceClaim(statement: Pick<Statement, "body" | "name" | "trustDomain">): ResourceClaim {
  const claim = readDocument(statement.trustDomain, resourceText(statement));
  if (`${claim.kind}/${claim.name}` !== statement.name) throw unfit("it is said under another name than its own");
  return claim;
}

function readDocument(trustDomain: string, text: string): ResourceClaim {
  const document = readCanonical(text);
  const { kind } = document;
  const name = recordOf(document["metadata"])["name"];
  if (typeof kind !== "string" || !KINDS.includes(kind)) throw unfit(`its kind is none of ${KINDS.join(", ")}`);
  if (typeof name !== "string" || !NAME.test(name)) throw unfit("its metadata.name is none");
  return { kind, name, ids: readIds(trustDomain, kind, recordOf(document["spec"])) };
}

/** Written again it must be the same: then no key is there twice, and every reader reads alike. */
function readCanonical(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (JSON.stringify(value) === text) return recordOf(value);
  } catch {
    // Falls through to the refusal: no JSON, or not in the one form.
  }
  throw unfit("it is no canonical JSON");
}

function readIds(trustDomain: string, kind: string, spec: Record<string, unknown>): ResourceClaim["ids"] {
  switch (kind) {
    case "WorkloadIdentity": {
      const path = spec["workloadID"];
      if (typeof path !== "string") throw unfit("its workloadID is no text");
      return [staticPart(trustDomain, path)];
    }
    case "AccessPolicy": {
      const workloads = [spec["workloads"]].flat();
      if (!workloads.every((item) => typeof item === "string")) return "any";
      return workloads.map((item) => patternPrefix(trustDomain, item));
    }
    case "Service":
      return [];
    default:
      return "any";
  }
}

/** The ID; of a template, all that may come of it: what is before its first label, up to the last '/'. */
function staticPart(trustDomain: string, path: string): string {
  const id = `spiffe://${trustDomain}/${path}`;
  const label = id.search(/[[{]/);
  return label < 0 ? id : id.slice(0, id.lastIndexOf("/", label) + 1);
}

/** `team/*` and `*` are all below; `team/agent` and a whole SPIFFE ID are themselves. */
function patternPrefix(trustDomain: string, pattern: string): string {
  const text = pattern.replace(/\*$/, "");
  return text.startsWith("spiffe://") ? text : `spiffe://${trustDomain}/${text}`;
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function unfit(fact: string): RiprapError {
  return new RiprapError("resource_unfit", `Cannot take the resource: ${fact}`);
}
