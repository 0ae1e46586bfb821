// What a node reads out of what stands: the resources that are meant for it, and where workloads are. Pure.

import { resourceText } from "../../federation/resource_claim.ts";
import { listEndpoints, type RosterState, resourcesFor } from "../../federation/roster.ts";
import type { FleetNode } from "../../fleet.ts";
import type { ResourceText } from "../../resource.ts";

/** A text for each resource; none for a node that is in no roster. */
export function textsFor(state: RosterState, self: FleetNode | undefined): readonly ResourceText[] {
  if (self === undefined) return [];
  const node = { name: self.name, groups: new Set([self.group]) };
  return resourcesFor(state, node).map((statement) => ({
    file: `fleet/${statement.name}`,
    text: resourceText(statement),
  }));
}

/** SPIFFE ID to the addresses where a node says it is. */
export function workloadAddresses(state: RosterState): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, Set<string>>();
  for (const { spiffeId, address } of listEndpoints(state)) {
    found.set(spiffeId, (found.get(spiffeId) ?? new Set()).add(address));
  }
  return new Map([...found].map(([spiffeId, addresses]) => [spiffeId, [...addresses].sort()]));
}
