// Which groups a node is in: the one that it was enrolled into, and every NodeGroup of the fleet that names it. Pure.
import { FLEET_NAME } from "../fleet.ts";
import { resourceText } from "./resource_claim.ts";
import type { RosterState } from "./roster.ts";

const KIND = "NodeGroup/";

/**
 * Only a group that is said to all counts: whoever may speak to one group alone must not take nodes into it. A resource that reads otherwise
 * than a NodeGroup names nobody.
 */
export function groupsOf(
  state: Pick<RosterState, "list">,
  node: { readonly name: string; readonly group: string },
): ReadonlySet<string> {
  const groups = new Set([node.group]);
  for (const statement of state.list("resource")) {
    if (!statement.name.startsWith(KIND) || statement.isDeleted || statement.scope !== "all") continue;
    const name = statement.name.slice(KIND.length);
    const { spec } = JSON.parse(resourceText(statement)) as { spec?: { nodes?: unknown } };
    const nodes: readonly unknown[] = Array.isArray(spec?.nodes) ? spec.nodes : [];
    if (FLEET_NAME.test(name) && nodes.some((pattern) => matches(pattern, node.name))) groups.add(name);
  }
  return groups;
}

function matches(pattern: unknown, name: string): boolean {
  if (typeof pattern !== "string") return false;
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}
