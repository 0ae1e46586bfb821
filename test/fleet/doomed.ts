// One thing of each kind that a fleet can revoke, made to be revoked in a run: what a peer would show of it, and what each daemon says when it comes with it.

import { expect } from "bun:test";
import { openNodeKeys } from "../../src/ca.ts";
import { systemClock } from "../../src/clock.ts";
import { openFleetKey } from "../../src/daemon/fleet/member.ts";
import { sealEnvelope } from "../../src/federation/envelope.ts";
import { openNats } from "../../src/federation/nats.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import { parseToken } from "../../src/federation/token.ts";
import { type RevocationTarget, writeTarget } from "../../src/fleet.ts";
import { Inbox, openClient, type Reply } from "../daemon/workload_api/endpoint.ts";
import { TRUST_DOMAIN } from "./fleet_park.ts";
import { type Said, signSvid } from "./invariant.ts";
import type { ParkNode } from "./park_node.ts";

const PATIENCE_MS = 60_000;
const PERMISSION_DENIED = 7;
const idOf = (path: string) => `spiffe://${TRUST_DOMAIN}/${path}`;

export interface Doomed extends Said {
  /** One after the other, by whom it takes. */
  readonly revocations: readonly (() => Promise<void>)[];
  /** Comes to the daemons with what was revoked; throws when one of them takes it. */
  ask(server: string): Promise<void>;
}

/** Before anything is revoked: an SVID and its ID, an authority that is not in use any more, a token, a node of its own, and the ID of this process. */
export async function doom(nodes: readonly ParkNode[], seed: number): Promise<Doomed> {
  const [issuer, carrier, mover] = nodes as readonly [ParkNode, ParkNode, ParkNode];
  const passenger = `passenger-${seed}`;
  const machine = await carrier.join(await issuer.token(), { nodeName: passenger, elsewhere: true });
  const token = await issuer.token();
  const sign = (stateDir: string, what: string) => signSvid(stateDir, idOf(`doomed/${seed}/${what}`));
  const refused = {
    serial: sign(carrier.stateDir, "serial"),
    id: sign(carrier.stateDir, "id"),
    node: sign(machine, "node"),
    authority: sign(mover.stateDir, "authority"),
  };
  const [before] = await authoritiesOf(issuer, mover);
  await mover.renew();
  const taken = { mover: sign(mover.stateDir, "mover"), carrier: sign(carrier.stateDir, "carrier") };
  const targets: readonly RevocationTarget[] = [
    { type: "id", value: idOf(`doomed/${seed}/id`) },
    { type: "id", value: idOf(`program/${seed}`) },
    { type: "node", value: passenger },
    { type: "authority", value: before ?? "" },
    { type: "token", value: parseToken(token).id },
  ];
  const [ownAuthority] = await authoritiesOf(issuer, carrier);
  const serial = { type: "serial", authority: ownAuthority ?? "", value: refused.serial.serial } as const;
  const chainsOf = (svids: Readonly<Record<string, { readonly chain: readonly Uint8Array[] }>>) =>
    new Map(Object.entries(svids).map(([what, { chain }]) => [what, chain]));
  return {
    revocations: [
      async () => void (await carrier.command(refused.serial.serial)),
      ...targets.map((target) => () => issuer.revoke(target)),
    ],
    revoked: [serial, ...targets].map(writeTarget),
    refusedChains: chainsOf(refused),
    takenChains: chainsOf(taken),
    async ask(server) {
      const joins = (text: string, nodeName: string) =>
        expect(carrier.join(text, { nodeName, elsewhere: true })).rejects;
      await joins(token, `late-${seed}`).toMatchObject({ code: "token_revoked" });
      await joins(await issuer.token(), passenger).toMatchObject({ code: "node_revoked" });
      await speak({ server, as: passenger, stateDir: machine }, nodes);
    },
  };
}

/** The newest first. */
async function authoritiesOf(asked: ParkNode, { name }: ParkNode): Promise<readonly string[]> {
  return (await asked.status()).nodes.find((node) => node.name === name)?.authorities ?? [];
}

/** A message of a revoked node, fresh and well signed: every daemon refuses it for that alone. */
async function speak(
  { server, as, stateDir }: { server: string; as: string; stateDir: string },
  nodes: readonly ParkNode[],
): Promise<void> {
  const counts = () => Promise.all(nodes.map(async (node) => countOf(await node.metrics())));
  const before = await counts();
  const subject = fleetSubjects(TRUST_DOMAIN).gossip(as);
  const nats = openNats({ servers: [server], name: as, clock: systemClock, random: Math.random });
  try {
    const signer = openFleetKey(openNodeKeys(stateDir));
    const rest = { type: "same", inReplyTo: "", payload: new Uint8Array() };
    const end = performance.now() + PATIENCE_MS;
    for (let sequence = 1; ; sequence += 1, await Bun.sleep(50)) {
      const draft = { trustDomain: TRUST_DOMAIN, subject, epoch: 1, sequence, time: systemClock.now(), ...rest };
      nats.publish(subject, sealEnvelope(draft, signer).bytes);
      const now = await counts();
      if (now.every((count, i) => count > (before[i] ?? 0))) return;
      if (performance.now() > end) throw new Error(`${as} was not refused by all: ${before} ${now}`);
    }
  } finally {
    await nats.close();
  }
}

function countOf(metrics: string): number {
  return Number(/^riprap_fleet_messages_refused_total\{reason="author_revoked"\} (\d+)$/m.exec(metrics)?.[1]);
}

/** Gives this test's own process the ID `program/NUMBER`, and no other. */
export function programDocument(number: number): unknown {
  return {
    apiVersion: "riprap.io/v1",
    kind: "WorkloadIdentity",
    metadata: { name: "program" },
    spec: {
      workloadID: `program/${number}`,
      selectors: [{ "process:exe": process.execPath }],
      svid: { x509: { delivery: "workload-api" } },
    },
  };
}

/** The IDs that a node's Workload API gives to this process. */
export async function idsAt({ workloadSocket }: ParkNode): Promise<readonly string[]> {
  const client = openClient(workloadSocket);
  const inbox = new Inbox(client.stream("FetchX509SVID"));
  try {
    const { svids } = (await inbox.next()) as Reply & { svids: readonly { spiffe_id: string }[] };
    return svids.map(({ spiffe_id: id }) => id).sort();
  } catch (thrown) {
    if ((thrown as { code?: number }).code === PERMISSION_DENIED) return [];
    throw thrown;
  } finally {
    inbox.cancel();
    client.close();
  }
}
