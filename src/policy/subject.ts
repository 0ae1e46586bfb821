// Which policies select an identity: exact IDs by one look, prefixes by one look a path segment.
import { prefixesOf } from "../id_pattern.ts";
import type { AccessPolicy } from "../resource.ts";
import type { SpiffeId } from "../spiffe_id.ts";

export type Selected = AccessPolicy;

export class PolicyIndex {
  readonly #exact = new Map<string, AccessPolicy[]>();
  readonly #prefix = new Map<string, AccessPolicy[]>();

  constructor(policies: readonly AccessPolicy[]) {
    for (const policy of policies) {
      for (const { text, match } of policy.workloads) {
        const map = match === "exact" ? this.#exact : this.#prefix;
        const there = map.get(text);
        if (there === undefined) map.set(text, [policy]);
        else there.push(policy);
      }
    }
  }

  /** By name, each once. */
  select(id: SpiffeId): readonly AccessPolicy[] {
    const text = String(id);
    const found = new Set(this.#exact.get(text));
    for (const prefix of prefixesOf(text)) for (const policy of this.#prefix.get(prefix) ?? []) found.add(policy);
    return [...found].sort((a, b) => (a.name < b.name ? -1 : 1));
  }
}
