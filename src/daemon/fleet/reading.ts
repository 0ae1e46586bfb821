// What a node reads out of what stands: the resources that are meant for it, and where workloads are. Pure.

import { resourceText } from "../../federation/resource_claim.ts";
import { listEndpoints, listRevocations, type RosterState, resourcesFor } from "../../federation/roster.ts";
import type { Statement } from "../../federation/statement.ts";
import type { FleetNode } from "../../fleet.ts";
import type { ResourceText } from "../../resource.ts";

/** A text for each resource; none for a node that knows of no fleet. */
export function textsFor(
  state: RosterState,
  node: Parameters<typeof resourcesFor>[1] | undefined,
): readonly ResourceText[] {
  if (node === undefined) return [];
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

/** SHA-256 of each revoked executable, with the reason. */
export function revokedExecutables(state: RosterState): ReadonlyMap<string, string> {
  const revoked = listRevocations(state).filter(({ target }) => target.type === "executable");
  return new Map(revoked.map(({ target, reason }) => [target.value, reason]));
}

/** The other active nodes: those that were heard of lately, or all when none was. */
export function peersToAsk(
  nodes: readonly FleetNode[],
  { nodeName, heardSince }: { readonly nodeName: string; readonly heardSince: number },
): readonly string[] {
  const others = nodes.filter(({ name, state }) => state === "active" && name !== nodeName);
  const lately = others.filter(({ presence }) => (presence?.saidAt ?? 0) > heardSince);
  return (lately.length > 0 ? lately : others).map(({ name }) => name);
}

/** One issuing node speaks for the trust domain: the first by name of this one and those that were heard of lately. */
export function isFirstIssuer(nodes: readonly FleetNode[], nodeName: string, lately: readonly string[]): boolean {
  const heard = new Set([...lately, nodeName]);
  return (
    nodes.find(({ name, isIssuer, state }) => isIssuer && state === "active" && heard.has(name))?.name === nodeName
  );
}

/** Statements that came by comparison are said again up to this number: others may have missed them too. */
const SPREAD_MAX = 64;

/** Revocations always; of the rest what others may have missed too, unless it is a whole state that came. */
export function worthSpreading(statements: readonly Statement[]): readonly Statement[] {
  const kept = statements.filter(({ kind }) => kind !== "presence" && kind !== "endpoint");
  return kept.length <= SPREAD_MAX ? kept : kept.filter(({ kind }) => kind === "revocation");
}
