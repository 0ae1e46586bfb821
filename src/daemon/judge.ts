// What the rules make of one process: an identity, none, or a refusal. Pure.

import type { LabelSet } from "../label.ts";
import type { ResourceSet } from "../resource.ts";
import { matchIdentities } from "../selector.ts";
import type { SpiffeId } from "../spiffe_id.ts";
import { RUNNING_DIGEST } from "./attestation/wanted.ts";
import type { Assignment } from "./registry.ts";

export type Judgement =
  /** No rule selects it: no identity, no key, no cost. */
  | { readonly outcome: "unmanaged" }
  | { readonly outcome: "identity"; readonly assignment: Assignment; readonly isAmbiguous: boolean }
  /** A rule selects it and cannot give it its ID: it gets none, rather than go unmanaged. */
  | { readonly outcome: "refused"; readonly rule: string; readonly reason: string };

export interface JudgeOptions {
  /** For a rule that gives none. */
  readonly lifetimeSeconds: number;
  /** Why nobody may have this ID now; undefined: nothing speaks against it. */
  revokedIdReason(spiffeId: SpiffeId): string | undefined;
  /** Why no process of an executable with this SHA-256 (empty: it cannot be told) may have an identity; undefined: nothing speaks against it. */
  revokedExecutable?(sha256: string): string | undefined;
}

/** The first match in order of precedence decides. */
export function judgeProcess(labels: LabelSet, resources: ResourceSet, options: JudgeOptions): Judgement {
  const [match] = matchIdentities(labels, resources);
  if (match === undefined) return { outcome: "unmanaged" };
  const { identity, spiffeId, because, isAmbiguous } = match;
  const rule = `WorkloadIdentity/${identity.name}`;
  if (spiffeId === undefined)
    return { outcome: "refused", rule, reason: because.at(-1) ?? "its SPIFFE ID cannot be made" };
  const [digest = ""] = labels.get(RUNNING_DIGEST) ?? [];
  const banned = options.revokedExecutable?.(digest);
  if (banned !== undefined) return { outcome: "refused", rule, reason: banned };
  const revoked = options.revokedIdReason(spiffeId);
  if (revoked !== undefined) return { outcome: "refused", rule, reason: `${spiffeId} is revoked: ${revoked}` };
  const assignment = {
    spiffeId,
    rule,
    because,
    lifetimeSeconds: identity.ttlSeconds ?? options.lifetimeSeconds,
    dnsNames: identity.dnsNames,
    delivery: identity.delivery,
  };
  return { outcome: "identity", assignment, isAmbiguous };
}
