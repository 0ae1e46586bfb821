// Signs what a person says to the fleet, with the operator's key of this machine, and hands it to the daemon. The daemon never has that key in use.

import { systemClock } from "../clock.ts";
import type { FleetStatusView, ResourceDraftView } from "../daemon/fleet/port.ts";
import { RiprapError } from "../error.ts";
import type { FleetScope } from "../fleet.ts";
import { asOwner } from "./authority.ts";
import type { ControlClient } from "./client.ts";
import type { Invocation } from "./invocation.ts";
import { stateDirOf } from "./setting.ts";

export interface SaidView {
  readonly key: string;
  readonly taken: boolean;
  readonly reason?: string;
}

export interface FleetWordView {
  readonly generation: number;
  readonly scope: string;
  readonly said: readonly SaidView[];
}

interface WordParts {
  readonly client: ControlClient;
  readonly invocation: Invocation;
  readonly scope: FleetScope;
}

/** Puts every resource of a text in force on the nodes of the scope. Throws RiprapError `operator_key_absent`, or what the daemon refuses. */
export async function applyToFleet(source: { name: string; text: string }, parts: WordParts): Promise<FleetWordView> {
  const { client } = parts;
  const ask = { query: { name: source.name }, body: source.text };
  const drafts = await client.post<readonly ResourceDraftView[]>("/v1/fleet/check", ask);
  if (drafts.length === 0) throw new RiprapError("invalid", `Cannot apply ${source.name}: it holds no resource`);
  const { draftResource } = await import("../federation/resource_claim.ts");
  return sayToFleet(parts, (trustDomain, time) =>
    drafts.map(({ document, revision }) =>
      draftResource({ trustDomain, document, scope: parts.scope, revision, time }),
    ),
  );
}

/** The resource is no longer on any node. */
export async function deleteFromFleet(
  { kind, name }: { kind: string; name: string },
  parts: WordParts,
): Promise<FleetWordView> {
  const query = { kind, name };
  const { revision } = await parts.client.get<{ revision: number }>("/v1/fleet/revision", { query });
  return sayToFleet(parts, (trustDomain, time) => [
    { trustDomain, kind: "resource", name: `${kind}/${name}`, revision, time, isDeleted: true, body: new Uint8Array() },
  ]);
}

type Draft = import("../federation/statement.ts").StatementDraft;

async function sayToFleet(
  { client, invocation, scope }: WordParts,
  draft: (trustDomain: string, time: number) => readonly Draft[],
): Promise<FleetWordView> {
  const { trustDomain } = await client.get<FleetStatusView>("/v1/fleet/status");
  const drafts = draft(trustDomain, systemClock.now());
  const stateDir = stateDirOf(invocation);
  const texts = await asOwner(stateDir, () => signAll(stateDir, drafts));
  const said = await client.post<readonly SaidView[]>("/v1/fleet/statements", { body: JSON.stringify(texts) });
  const refused = said.find(({ taken }) => !taken);
  if (refused !== undefined)
    throw new RiprapError(
      "fleet_refused",
      `Cannot say ${refused.key} to the fleet: ${refused.reason ?? "it was refused"}`,
    );
  const { generation } = await client.get<FleetStatusView>("/v1/fleet/status");
  return { generation: generation.number, scope: scope.type === "all" ? "all" : `${scope.type}:${scope.name}`, said };
}

async function signAll(stateDir: string, drafts: readonly Draft[]): Promise<string[]> {
  const [{ openNodeKeys }, { openOperatorKey }, { signStatement }] = await Promise.all([
    import("../ca.ts"),
    import("../daemon/fleet/member.ts"),
    import("../federation/statement.ts"),
  ]);
  const signer = openOperatorKey(openNodeKeys(stateDir));
  if (signer === undefined) {
    const remedy = "do it on the node where riprap init was run";
    throw new RiprapError(
      "operator_key_absent",
      `Cannot speak to the fleet: this machine has no operator's key; ${remedy}`,
    );
  }
  return drafts.map((each) => Buffer.from(signStatement(each, signer).bytes).toString("base64"));
}
