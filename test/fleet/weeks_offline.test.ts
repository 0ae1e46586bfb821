// A machine that was off for a month, and for more than a year: the others go on meanwhile, and their clocks with them. Each daemon is a process whose clock a library moves.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseToken } from "../../src/federation/token.ts";
import { identityDocument, openFleetPark, type Park, type ParkNode, TRUST_DOMAIN } from "./fleet_park.ts";
import { holdInvariants, signSvid } from "./invariant.ts";
import { NATS_SERVER, type NatsPark, openPark } from "./nats_server.ts";

const TEST_MS = 180_000;
const DAY_MS = 86_400_000;
const MONTH_DAYS = 30;
/** Of a year, less than a third is left, and an intermediate is renewed. */
const MOST_OF_A_YEAR_DAYS = 250;
const SECOND_ABSENCE_DAYS = 400;
const idOf = (name: string) => `spiffe://${TRUST_DOMAIN}/${name}`;

describe.skipIf(NATS_SERVER === null).each([true, false])(
  "a machine that was off, JetStream %p (skipped without nats-server)",
  (jetstream) => {
    let nats: NatsPark;
    let park: Park;
    let here: readonly ParkNode[];
    let away: ParkNode;

    beforeAll(async () => {
      nats = openPark();
      const skewMs = -(MONTH_DAYS + SECOND_ABSENCE_DAYS) * DAY_MS;
      park = await openFleetPark([await nats.single({ jetstream })], 3, 31, { areApart: true, skewMs });
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
      // The issuing node is there when the others ask it.
      for (const node of nodes) {
        await node.start();
        await park.until("it is connected", ([view]) => view?.state === "connected", [node]);
      }
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

    test(
      "Renewer has another intermediate signed when its own ended while the machine was off",
      async () => {
        const authoritiesOf = async (node: ParkNode) =>
          (await first().status()).nodes.find(({ name }) => name === node.name)?.authorities ?? [];
        const before = await authoritiesOf(away);
        await away.stop();
        away.skewMs += SECOND_ABSENCE_DAYS * DAY_MS;
        await pass(here, MOST_OF_A_YEAR_DAYS);
        const [, member] = here as readonly [ParkNode, ParkNode];
        await park.until(
          "who is on has renewed its own",
          ([view]) => (view?.nodes.find(({ name }) => name === member.name)?.authorities.length ?? 0) > 1,
          [first()],
        );
        await pass(here, SECOND_ABSENCE_DAYS - MOST_OF_A_YEAR_DAYS);
        await first().revoke({ type: "id", value: idOf("second") });
        await away.start();
        await park.until(
          "it has another",
          ([view]) => (view?.nodes.find(({ name }) => name === away.name)?.authorities.length ?? 0) > before.length,
          [first()],
        );
        await park.settle();
        const takenChains = new Map([["new", sign(away, "good").chain]]);
        await holdInvariants(park.nodes, { revoked: [`id:${idOf("second")}`], takenChains, refusedChains: new Map() });
      },
      TEST_MS,
    );

    test(
      "Fleet hears nothing of it when it was revoked meanwhile, and its name does not join again",
      async () => {
        await away.stop();
        await first().revoke({ type: "node", value: away.name });
        await away.start();
        const stateOf = async () => (await first().status()).nodes.find(({ name }) => name === away.name);
        expect(await stateOf()).toMatchObject({ state: "revoked" });
        await expect(away.join(await first().token(), { elsewhere: true })).rejects.toMatchObject({
          code: "node_revoked",
        });
        await park.settle(here);
        await holdInvariants(here, {
          revoked: [`node:${away.name}`],
          takenChains: new Map(),
          refusedChains: new Map(),
        });
      },
      TEST_MS,
    );
  },
);
