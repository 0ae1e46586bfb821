// A machine that was off for a month: the others go on meanwhile, and their clocks with them. Each daemon is a process whose clock a library moves.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseToken } from "../../src/federation/token.ts";
import { identityDocument, openFleetPark, type Park, type ParkNode, TRUST_DOMAIN } from "./fleet_park.ts";
import { holdInvariants, signSvid } from "./invariant.ts";
import { NATS_SERVER, type NatsPark, openPark } from "./nats_server.ts";

const TEST_MS = 180_000;
const DAY_MS = 86_400_000;
const MONTH_DAYS = 30;
const idOf = (name: string) => `spiffe://${TRUST_DOMAIN}/${name}`;

describe.skipIf(NATS_SERVER === null)("a machine that was off (skipped without nats-server)", () => {
  let nats: NatsPark;
  let park: Park;
  let here: readonly ParkNode[];
  let away: ParkNode;

  beforeAll(async () => {
    nats = openPark();
    const skewMs = -MONTH_DAYS * DAY_MS;
    park = await openFleetPark([await nats.single()], 3, 31, { areApart: true, skewMs });
    here = park.nodes.slice(0, 2);
    away = park.nodes[2] as ParkNode;
  }, TEST_MS);

  afterAll(async () => {
    await park?.leave();
    await nats?.leave();
  }, TEST_MS);

  /** Off, days later on again. */
  async function pass(nodes: readonly ParkNode[], days: number): Promise<void> {
    await Promise.all(nodes.map((node) => node.stop()));
    for (const node of nodes) node.skewMs += days * DAY_MS;
    await Promise.all(nodes.map((node) => node.start()));
    await park.settle(nodes);
  }

  const first = () => here[0] as ParkNode;
  const sign = (node: ParkNode, id: string) => signSvid(node.stateDir, idOf(id), node.clock);

  test(
    "Fleet converges when it was off for a month: what was revoked meanwhile is revoked there, and whatever it had begun is heard",
    async () => {
      const token = await first().token({ lifetimeMs: DAY_MS });
      const old = sign(away, "good");
      // The last that it heard before it went: of that nobody else knows, and the ID in it will be revoked.
      for (const proxy of away.proxies) proxy.isCut = true;
      await park.apply(identityDocument(1, "revoked-meanwhile"), away);
      await away.stop();
      for (const proxy of away.proxies) proxy.isCut = false;
      away.skewMs += MONTH_DAYS * DAY_MS;
      await pass(here, MONTH_DAYS);
      const { id } = parseToken(token);
      await first().revoke({ type: "id", value: idOf("revoked-meanwhile") });
      await first().revoke({ type: "token", value: id });
      await park.apply(identityDocument(2), first());
      await away.start();
      await park.settle();
      const said = [`id:${idOf("revoked-meanwhile")}`, `token:${id}`];
      const chains = { takenChains: new Map([["new", sign(away, "good").chain]]), refusedChains: new Map() };
      await holdInvariants(park.nodes, { revoked: said, ...chains });
      for (const node of park.nodes) {
        expect(await node.resources()).toEqual(["WorkloadIdentity/identity-1", "WorkloadIdentity/identity-2"]);
        expect(() => sign(node, "revoked-meanwhile")).toThrow(expect.objectContaining({ code: "id_revoked" }));
      }
      // Ended, as everything that it had signed.
      expect(old.notAfter.getTime()).toBeLessThan(away.clock.now());
      await expect(away.join(token, { nodeName: "late", elsewhere: true })).rejects.toMatchObject({
        code: "token_revoked",
      });
      expect((await away.status()).warnings).toEqual([]);
    },
    TEST_MS,
  );
});
