// A root that is replaced and revoked while the fleet runs: every node hears it, goes on, and moves under the new one; and a token of before is refused.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { FleetStatusView } from "../../src/daemon/fleet/port.ts";
import { signStatement } from "../../src/federation/statement.ts";
import { makeRoot } from "../federation/fleet_fixture.ts";
import { beside, WORKLOAD_KEY } from "./beside.ts";
import { identityDocument, openFleetPark, type Park, type ParkNode, TRUST_DOMAIN } from "./fleet_park.ts";
import { NATS_SERVER, type NatsPark, openPark } from "./nats_server.ts";

const TEST_MS = 60_000;
const PATIENCE_MS = 20_000;

/** The phase of each root on a node, by its ID. */
async function phasesOf(node: ParkNode): Promise<Readonly<Record<string, string>>> {
  const { authorities } = await node.authorities();
  return Object.fromEntries(authorities.filter(({ kind }) => kind === "x509").map(({ id, phase }) => [id, phase]));
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end; await Bun.sleep(50))
    if (await holds()) return;
  throw new Error(`never came true: ${what}`);
}

function svidOf(node: ParkNode): readonly Uint8Array[] {
  const request = {
    spiffeId: `spiffe://${TRUST_DOMAIN}/w/${node.name}`,
    publicKey: WORKLOAD_KEY,
    lifetimeSeconds: 600,
  };
  return beside(node.stateDir, (authority) => authority.issueX509Svid({ ...request, context: {} }).chain);
}

async function expectAllPeersTaken(nodes: readonly ParkNode[]): Promise<void> {
  for (const node of nodes) {
    const chain = svidOf(node);
    for (const peer of nodes) {
      const answer = beside(peer.stateDir, (authority) => authority.verifyPeerChain(chain));
      expect(`${node.name} at ${peer.name}: ${answer.ok ? "taken" : answer.code}`).toBe(
        `${node.name} at ${peer.name}: taken`,
      );
    }
  }
}

const agree = (views: readonly FleetStatusView[]) => new Set(views.map(({ root }) => root)).size === 1;

describe.skipIf(NATS_SERVER === null).each([true, false])(
  "a root of a fleet, JetStream %p (skipped without nats-server)",
  (jetstream) => {
    let nats: NatsPark;
    let park: Park;
    let [first, away, third]: readonly (ParkNode | undefined)[] = [];
    const ids = { old: "", next: "" };

    beforeAll(async () => {
      nats = openPark();
      park = await openFleetPark([await nats.single({ jetstream })], 3, 7);
      [first, away, third] = park.nodes;
    }, TEST_MS);

    afterAll(async () => {
      await park?.leave();
      await nats?.leave();
    });

    test(
      "Fleet brings a prepared root into the bundle of every node, while one of them is away",
      async () => {
        const [one, two, three] = [first, away, third] as [ParkNode, ParkNode, ParkNode];
        ids.old = Object.keys(await phasesOf(one))[0] ?? "";
        await two.stop();
        ids.next = (await one.authority("prepare", { kind: "x509" })).authority.id;
        await until("the other knows it", async () => (await phasesOf(three))[ids.next] === "published");
        await expectAllPeersTaken([one, three]);
      },
      TEST_MS,
    );

    test(
      "Fleet moves the others under the new root when it signs, and their peers are taken all the while",
      async () => {
        const [one, , three] = [first, away, third] as [ParkNode, ParkNode, ParkNode];
        const former = await one.token();
        await one.authority("activate", { id: ids.next, force: "1" });
        // At once, before anybody has another intermediate: under the old root and under the new one.
        await until("the other knows who signs", async () => (await three.status()).nodes.length === 3);
        await expectAllPeersTaken([one, three]);
        await until("it has moved", async () => (await three.authorities()).intermediate.root === ids.next);
        await expectAllPeersTaken([one, three]);
        const late = three.join(former, { nodeName: "late", elsewhere: true });
        await expect(late).rejects.toMatchObject({
          code: "join_retired_root",
          message: expect.stringContaining("make a new token"),
        });
        await three.join(await one.token(), { nodeName: "fresh", elsewhere: true });
      },
      TEST_MS,
    );

    test(
      "Fleet lets what the old root granted stand when it is revoked, on a node that was away for all of it too",
      async () => {
        const [one, two, three] = [first, away, third] as [ParkNode, ParkNode, ParkNode];
        // Of the one that is away an intermediate lives under it.
        await expect(one.authority("revoke", { id: ids.old })).rejects.toThrow(two.name);
        await one.authority("revoke", { id: ids.old, force: "1" });
        await until("the other trusts it no longer", async () => (await phasesOf(three))[ids.old] === "revoked");
        await two.start();
        await until("so does who was away", async () => (await phasesOf(two))[ids.old] === "revoked");
        await until("and it has moved", async () => (await two.authorities()).intermediate.root === ids.next);
        await park.settle();
        await expectAllPeersTaken([one, two, three]);
        // Issuing node, operator and roster stand: rules and revocations go on.
        await park.apply(identityDocument(1), two);
        await park.until("all have applied it", (views) =>
          views.every(({ nodes }) =>
            nodes
              .filter(({ name }) => name !== "fresh")
              .every(({ isCurrent, applied }) => isCurrent && applied?.number === 1),
          ),
        );
        await one.revoke({ type: "id", value: `spiffe://${TRUST_DOMAIN}/w/9` });
        await park.until("all know it", (views) => views.every(({ revocations }) => revocations.length === 1));
        await three.join(await one.token(), { nodeName: "newest", elsewhere: true });
      },
      TEST_MS,
    );

    test(
      "Fleet starts again from disk with the roots as they stand",
      async () => {
        for (const node of park.nodes) await node.stop();
        for (const node of park.nodes) await node.start();
        await park.until("all agree", agree);
        for (const { roots, warnings } of await Promise.all(park.nodes.map((node) => node.status()))) {
          expect(roots.map(({ state }) => state)).toEqual(["revoked", "trusted"]);
          expect(warnings).toEqual([]);
        }
        for (const node of park.nodes) expect(await phasesOf(node)).toMatchObject({ [ids.old]: "revoked" });
        await expectAllPeersTaken(park.nodes);
        await park.apply(identityDocument(2), park.nodes[2] as ParkNode);
        await park.until("all have applied it", (views) => views.every(({ generation }) => generation.number === 2));
      },
      TEST_MS,
    );

    test(
      "Fleet moves every node off a root that is tainted, which then leaves every bundle",
      async () => {
        const [one, two, three] = [first, away, third] as [ParkNode, ParkNode, ParkNode];
        await one.authority("taint", { id: ids.next, force: "1", reason: "the key was copied" });
        const [, , last = ""] = Object.keys(await phasesOf(one));
        for (const node of [two, three])
          await until(`${node.name} has moved`, async () => (await node.authorities()).intermediate.root === last);
        await expectAllPeersTaken([one, two, three]);
        // Those that joined and were never heard of again are all that is left under it.
        await expect(one.authority("revoke", { id: ids.next })).rejects.toThrow("the intermediates of fresh, newest");
        await one.authority("revoke", { id: ids.next, force: "1" });
        for (const node of [one, two, three])
          await until(`${node.name} trusts it no longer`, async () => (await phasesOf(node))[ids.next] === "revoked");
        await expectAllPeersTaken([one, two, three]);
        await park.apply(identityDocument(3), two);
        await park.until("all have applied it", (views) => views.every(({ generation }) => generation.number === 3));
      },
      TEST_MS,
    );

    test(
      "Fleet refuses what a stranger says of the roots, and a person sees it once",
      async () => {
        const [one] = [first] as [ParkNode];
        const before = await one.status();
        const thief = makeRoot("thief");
        const body = Buffer.from(
          JSON.stringify({ roots: [{ certificate: "MAA=", state: "trusted", keep: [], by: "", endorsement: "" }] }),
        );
        const draft = {
          trustDomain: TRUST_DOMAIN,
          kind: "bundle",
          name: "domain",
          revision: 99,
          time: Date.now(),
          body,
        } as const;
        const { bytes } = signStatement(draft, thief);
        for (let i = 0; i < 3; i++)
          await expect(one.say([bytes])).rejects.toThrow("no root that this node knows has brought in its author");
        expect((await one.events()).filter(({ event }) => event === "roots refused")).toHaveLength(1);
        expect((await one.status()).roots).toEqual(before.roots);
      },
      TEST_MS,
    );
  },
);
