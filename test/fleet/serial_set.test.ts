// A node that revokes more of its SVIDs than are said one by one: the others refuse them by a set, also those that were away, that start again, and the node itself with an old disk.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { CUT_BY } from "../../src/abi.ts";
import { type Clock, systemClock } from "../../src/clock.ts";
import type { FleetStatusView } from "../../src/daemon/fleet/port.ts";
import { FakeKernel } from "../daemon/fake_kernel.ts";
import { eventually, settle } from "../daemon/house.ts";
import { beside, WORKLOAD_KEY } from "./beside.ts";
import { openFleetPark, type Park, type ParkNode, TRUST_DOMAIN } from "./fleet_park.ts";
import { NATS_SERVER, type NatsPark, openPark } from "./nats_server.ts";

const TEST_MS = 60_000;
const REVOKED = 100;
const SIGNED = 400;
/** What is fresh is in no set. */
const ago: Clock = { now: () => systemClock.now() - 60_000, sleep: systemClock.sleep };

/** Numbers said one by one, and in sets. */
function said({ revocations }: FleetStatusView): { single: number; sets: number; inSets: number } {
  const counts = revocations.map(({ target, reason }) =>
    target.startsWith("serials:") ? Number(/^(\d+) serial numbers that node-1 has revoked$/.exec(reason)?.[1]) : 0,
  );
  const sets = counts.filter((count) => count > 0);
  return {
    single: counts.length - sets.length,
    sets: sets.length,
    inSets: sets.reduce((sum, count) => sum + count, 0),
  };
}

describe.skipIf(NATS_SERVER === null)("serial numbers revoked by the dozen (skipped without nats-server)", () => {
  const kernels = [new FakeKernel(), new FakeKernel(), new FakeKernel()];
  let nats: NatsPark;
  let park: Park;
  let speaker: ParkNode;
  let chains: readonly (readonly Uint8Array[])[] = [];
  let serials: readonly string[] = [];

  beforeAll(async () => {
    nats = openPark();
    const openDevice = (index: number) => (kernels[index] as FakeKernel).open;
    park = await openFleetPark([await nats.single()], 3, 7, { openDevice });
    speaker = park.nodes[1] as ParkNode;
    const requests = Array.from({ length: SIGNED }, (_, i) => ({
      spiffeId: `spiffe://${TRUST_DOMAIN}/w/${i}`,
      publicKey: WORKLOAD_KEY,
      lifetimeSeconds: 3600,
      context: {},
    }));
    const svids = beside(speaker.stateDir, (authority) => authority.issueX509Svids(requests), ago);
    chains = svids.map(({ chain }) => chain);
    serials = svids.map(({ serial }) => serial);
    speaker.snapshot();
  }, TEST_MS);

  afterAll(async () => {
    await park?.leave();
    await nats?.leave();
  }, TEST_MS);

  let asks = 0n;
  /** The alert with which a node's daemon answers the module about a chain; 0: it is taken. */
  async function alertOf(node: number, chain: number): Promise<number | undefined> {
    const kernel = kernels[node] as FakeKernel;
    asks += 1n;
    const ask = asks;
    const about = { flow: 1n, instance: 1n, trustGeneration: kernel.trustGeneration, peerIsServer: 1 };
    kernel.send("verify", { ...about, ask, chain: [...(chains[chain] ?? [])] });
    await settle();
    return kernel.ofType("verified").find((answer) => answer.ask === ask)?.alert;
  }

  async function refusedBy(node: number): Promise<number[]> {
    const refused: number[] = [];
    for (let chain = 0; chain < SIGNED; chain += 3) if ((await alertOf(node, chain)) !== 0) refused.push(chain);
    return refused;
  }

  const wanted = Array.from({ length: SIGNED }, (_, i) => i).filter((i) => i % 3 === 0 && i < REVOKED);

  test(
    "SetKeeper says them as a set, each node refuses those and no others, and who was away is cut off by the set alone",
    async () => {
      for (const node of [0, 2]) expect(await refusedBy(node)).toEqual([]);
      const away = park.nodes[2] as ParkNode;
      for (const proxy of away.proxies) proxy.isCut = true;
      await park.until("it is away", (views) => views.every(({ state }) => state === "offline"), [away]);
      for (const serial of serials.slice(0, REVOKED)) {
        const { outcome, notes } = await speaker.command(serial);
        expect(outcome).toBe("revoked");
        expect(notes.join()).toContain("said to the fleet of 3, statement ");
      }
      const here = park.nodes.slice(0, 2);
      const isInSets = (view: FleetStatusView) => {
        const { single, inSets } = said(view);
        return single + inSets === REVOKED && inSets > 64;
      };
      await park.until("most are in a set", (views) => views.every(isInSets), here);
      expect(await refusedBy(0)).toEqual(wanted);
      expect(await refusedBy(2)).toEqual([]);
      const before = kernels[2]?.trustGeneration ?? 0n;
      for (const proxy of away.proxies) proxy.isCut = false;
      const views = await park.settle();
      expect(views.every(isInSets)).toBe(true);
      expect(await refusedBy(2)).toEqual(wanted);
      expect(kernels[2]?.trustGeneration).toBeGreaterThan(before);
      const cut = () => (kernels[2]?.ofType("cut") ?? []).filter(({ by }) => by === CUT_BY.peerId).map(({ id }) => id);
      await eventually(() => cut().length >= wanted.length);
      expect(new Set(cut())).toEqual(new Set(wanted.map((i) => `spiffe://${TRUST_DOMAIN}/w/${i}`)));
    },
    TEST_MS,
  );

  test(
    "FleetPort says truthfully what is in a set, and that one of them is revoked already",
    async () => {
      const events = await (park.nodes[2] as ParkNode).events();
      const [line] = events.filter(({ event, subject }) => event === "revoked" && subject.startsWith("serials:"));
      expect(line?.detail).toMatch(/^\d+ serial numbers, by /);
      // Of those that the set says nothing is told as if it had ended.
      expect(events.filter(({ event }) => event === "no longer stands")).toEqual([]);
      const status = await speaker.status();
      const [set] = status.revocations.filter(({ target }) => target.startsWith("serials:"));
      const again = await speaker.command(serials[0] ?? "");
      expect(again).toMatchObject({ outcome: "already_revoked" });
      expect(again.notes.join()).toContain(set?.statement ?? "nothing");
      expect((await speaker.status()).statements).toBe(status.statements);
      const warned = park.nodes[2]?.log.filter((text) => text.includes("a peer was refused")).join() ?? "";
      expect(warned).toContain(set?.statement ?? "nothing");
    },
    TEST_MS,
  );

  test(
    "Fleet goes on refusing them after a restart without any broker",
    async () => {
      const node = park.nodes[2] as ParkNode;
      await node.stop();
      for (const proxy of node.proxies) proxy.isCut = true;
      await node.start();
      await settle();
      expect(await refusedBy(2)).toEqual(wanted);
      for (const proxy of node.proxies) proxy.isCut = false;
      await park.settle();
    },
    TEST_MS,
  );

  test(
    "fleetHooks() gives a node with an old disk back what it had revoked",
    async () => {
      const isRevoked = (i: number) => beside(speaker.stateDir, (authority) => authority.isRevoked(serials[i] ?? ""));
      await speaker.stop();
      speaker.restore();
      expect(isRevoked(0)).toBe(false);
      await speaker.start();
      await park.settle();
      expect([0, 50, REVOKED - 1, REVOKED, SIGNED - 1].map(isRevoked)).toEqual([true, true, true, false, false]);
    },
    TEST_MS,
  );
});
