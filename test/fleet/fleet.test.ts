// Five daemons, each the built binary in a process of its own, over a cluster of three NATS servers: servers that die, messages that are lost, daemons killed, a wrong clock, an old disk, a hostile client, a revoked node.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { systemClock } from "../../src/clock.ts";
import type { FleetStatusView } from "../../src/daemon/fleet/port.ts";
import { openNats } from "../../src/federation/nats.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import { type RevocationTarget, writeTarget } from "../../src/fleet.ts";
import { draw, random as seededRandom } from "../random.ts";
import { NO_CHAOS } from "./chaos_proxy.ts";
import { type Doomed, doom, idsAt, programDocument } from "./doomed.ts";
import { identityDocument, openFleetPark, type Park, type ParkNode, TRUST_DOMAIN } from "./fleet_park.ts";
import { holdInvariants } from "./invariant.ts";
import { NATS_SERVER, type NatsPark, type NatsServer, openPark } from "./nats_server.ts";

const HAS_SERVER = NATS_SERVER !== null;
const TEST_MS = 180_000;
const idOf = (number: number) => `spiffe://${TRUST_DOMAIN}/w/${number}`;

describe.skipIf(!HAS_SERVER).each([true, false])(
  "a fleet of five, JetStream %p (skipped without nats-server)",
  (jetstream) => {
    let nats: NatsPark;
    let servers: readonly NatsServer[];
    let park: Park;
    let doomed: Doomed | undefined;
    let number = 0;

    beforeAll(async () => {
      nats = openPark();
      servers = await nats.cluster({ jetstream });
      park = await openFleetPark(servers, 5, 1, { areApart: true, workloadApi: true });
      members = park.nodes;
    }, TEST_MS);

    afterAll(async () => {
      await park?.leave();
      await nats?.leave();
    }, TEST_MS);

    const proxies = () => park.nodes.flatMap((node) => node.proxies);
    const pick = (index: number) => park.nodes[index % park.nodes.length] ?? (park.nodes[0] as ParkNode);

    /** Revoked by name in these tests; `doomed` knows the rest. */
    const revoked: RevocationTarget[] = [];
    /** All but a node that was revoked. */
    let members: readonly ParkNode[] = [];

    /** What must hold whenever the fleet has come to rest is held after each. */
    function held(name: string, work: () => Promise<void>): void {
      test(
        name,
        async () => {
          await work();
          await park.settle(members);
          const { refusedChains = new Map(), takenChains = new Map() } = doomed ?? {};
          const targets = [...revoked.map(writeTarget), ...(doomed?.revoked ?? [])];
          await holdInvariants(members, { revoked: targets, refusedChains, takenChains });
        },
        TEST_MS,
      );
    }

    async function revoke(by: ParkNode, target: RevocationTarget): Promise<void> {
      await by.revoke(target);
      revoked.push(target);
    }

    /** Says a rule by way of a node, until all have it in force. Answers its name. */
    async function applyToAll(by: ParkNode): Promise<string> {
      await park.apply(identityDocument(++number), by);
      const { generation } = await by.status();
      const names = new Set(park.nodes.map(({ name }) => name));
      await park.until("all have applied it", (views) =>
        views.every(
          (view) =>
            view.generation.digest === generation.digest &&
            view.nodes.every(({ name, isCurrent }) => isCurrent || !names.has(name)),
        ),
      );
      return `WorkloadIdentity/identity-${number}`;
    }

    held("Fleet brings one rule and one revocation to every node, and each acknowledges", async () => {
      await applyToAll(pick(1));
      await revoke(pick(0), { type: "id", value: idOf(0) });
      await park.until("all know it", (views) => views.every(({ revocations }) => revocations.length === 1));
    });

    held("Renewer has an issuing node sign the next intermediate over NATS, and the roster names it", async () => {
      const node = pick(2);
      const authoritiesIn = (view: FleetStatusView | undefined) =>
        view?.nodes.find(({ name }) => name === node.name)?.authorities ?? [];
      const before = authoritiesIn(await node.status());
      await node.renew();
      await park.until("all know the new authority beside the old", (views) =>
        views.every((view) => authoritiesIn(view).length === before.length + 1),
      );
    });

    held("Fleet brings the JWT keys of each node to all, so that a token of one is taken by the others", async () => {
      const kidsOf = async (node: ParkNode): Promise<string> => {
        const { keys }: { keys: { kid: string }[] } = JSON.parse(await node.jwks());
        return keys
          .map(({ kid }) => kid)
          .sort()
          .join();
      };
      let all = await Promise.all(park.nodes.map(kidsOf));
      for (let look = 0; look < 200 && !(new Set(all).size === 1 && all[0]?.split(",").length === 5); look += 1) {
        await Bun.sleep(100);
        all = await Promise.all(park.nodes.map(kidsOf));
      }
      expect(new Set(all).size).toBe(1);
      expect(all[0]?.split(",").length).toBe(5);
    });

    held("Fleet goes on when each server is killed in turn", async () => {
      for (const [i, server] of servers.entries()) {
        await server.kill();
        const gone = park.nodes.map(({ proxies: own }) => own[i]?.url.replace("nats://", ""));
        await park.until("all are at another", (views) =>
          views.every(({ state, server: at }, j) => state === "connected" && at !== gone[j]),
        );
        await applyToAll(pick(i + 1));
        await server.start();
      }
    });

    held(
      "Fleet comes to the same on every node when messages are dropped, delayed, repeated and reordered by seed, and takes nothing that is revoked or not signed",
      async () => {
        const seed = jetstream ? 1 : 2;
        const random = seededRandom(seed);
        doomed = await doom(park.nodes, seed);
        await park.apply(programDocument(seed), pick(seed));
        await park.settle();
        const program = `spiffe://${TRUST_DOMAIN}/program/${seed}`;
        for (const node of park.nodes) expect(await idsAt(node)).toEqual([program]);
        for (const proxy of proxies()) proxy.chaos = { drop: 0.3, repeat: 0.2, delay: 0.3, delayMostMs: 300 };
        for (const revokeNext of [...doomed.revocations, undefined, undefined]) {
          await park.apply(
            identityDocument(random() < 0.5 ? draw(random, number) + 1 : ++number),
            pick(draw(random, 5)),
          );
          await revokeNext?.();
        }
        for (const proxy of proxies()) proxy.chaos = NO_CHAOS;
        await park.settle();
        await doomed.ask(servers[seed]?.url ?? "");
        for (const node of park.nodes) expect(await idsAt(node)).toEqual([]);
        expect(proxies().reduce((sum, { counts }) => sum + counts.dropped, 0)).toBeGreaterThan(10);
      },
    );

    held(
      "Fleet loses nothing of what a daemon had taken when it was killed, and hears it when it is there again",
      async () => {
        const node = jetstream ? pick(3) : pick(0);
        // Of the one nobody else has heard when it is killed; the other comes while it is.
        for (const proxy of node.proxies) proxy.isCut = true;
        await park.apply(identityDocument(++number), node);
        const alone = `WorkloadIdentity/identity-${number}`;
        await Promise.all([node.kill(), park.apply(identityDocument(++number), pick(1))]);
        for (const proxy of node.proxies) proxy.isCut = false;
        await node.start();
        await park.settle();
        const names = [alone, `WorkloadIdentity/identity-${number}`, await applyToAll(node)];
        await park.settle();
        for (const each of park.nodes) expect(await each.resources()).toEqual(expect.arrayContaining(names));
      },
    );

    held("Fleet converges when nodes were cut off while both sides changed the same rule", async () => {
      const away = pick(4);
      for (const proxy of away.proxies) proxy.isCut = true;
      await park.until("it is away", (views) => views.every(({ state }) => state === "offline"), [away]);
      // The operator's word on both sides, neither of which knows of the other.
      await park.apply(identityDocument(1, "w/here"), pick(0));
      await park.apply(identityDocument(1, "w/there"), away);
      await revoke(pick(0), { type: "id", value: idOf(77) });
      for (const proxy of away.proxies) proxy.isCut = false;
      const views = await park.settle();
      expect(new Set(views.map(({ generation }) => generation.digest)).size).toBe(1);
      expect(views.every(({ revocations }) => revocations.some(({ target }) => target.endsWith("/w/77")))).toBe(true);
      const events = await Promise.all(park.nodes.map((node) => node.events()));
      expect(events.flat().some(({ event }) => event === "conflict")).toBe(true);
    });

    held(
      "Fleet refuses a node with a clock that is two hours wrong and tells it; with the right clock it converges",
      async () => {
        const node = pick(3);
        await node.stop();
        node.skewMs = 2 * 3_600_000;
        await node.start();
        await park.until(
          "it is told",
          (views) => views.some(({ warnings }) => /clock is 7\d\d\d s/.test(warnings.join())),
          [node],
        );
        await node.stop();
        node.skewMs = 0;
        await node.start();
        await park.settle();
        expect((await node.status()).warnings).toEqual([]);
      },
    );

    held("Fleet tells a node that was restored from an old disk, and it goes on after what it had said", async () => {
      const node = pick(2);
      await node.stop();
      node.snapshot();
      // Two starts that the old disk knows nothing of.
      for (let i = 0; i < 2; i++) {
        await node.start();
        await park.settle();
        await node.stop();
      }
      await park.apply(identityDocument(++number), pick(0));
      node.restore();
      await node.start();
      await park.settle();
      const events = await node.events();
      expect(events.some(({ event }) => event === "recovered")).toBe(true);
      await park.until("it is heard again", (views) =>
        views.every(
          ({ nodes }) => nodes.find(({ name }) => name === node.name)?.applied?.number === views[0]?.generation.number,
        ),
      );
    });

    held("Fleet takes nothing of a hostile client with the broker's rights, whatever it publishes", async () => {
      const before = await park.settle();
      const hostile = openNats({
        servers: [servers[0]?.url ?? ""],
        name: "hostile",
        clock: systemClock,
        random: Math.random,
      });
      const heard: { subject: string; data: Uint8Array }[] = [];
      hostile.subscribe(">", ({ subject, data }) => void heard.push({ subject, data }));
      await park.apply(identityDocument(++number), pick(1));
      await park.until("it has heard something", () => heard.length > 5);
      const subjects = fleetSubjects(TRUST_DOMAIN);
      const random = seededRandom(5);
      const everywhere = [
        ...park.nodes.flatMap(({ name }) => [subjects.gossip(name), subjects.ask(name)]),
        subjects.join("x"),
        subjects.bundle,
      ];
      for (let i = 0; i < 400; i++) {
        const known = heard[draw(random, heard.length)] ?? { subject: "", data: new Uint8Array(8) };
        const data = Uint8Array.from(known.data);
        // Replayed, altered, cut short, on its own subject and on others.
        if (random() < 0.6 && data.length > 0) data[draw(random, data.length)] = draw(random, 256);
        const subject = random() < 0.5 ? known.subject : (everywhere[draw(random, everywhere.length)] ?? "");
        if (!subject.startsWith("_INBOX"))
          hostile.publish(subject, random() < 0.2 ? data.subarray(0, draw(random, data.length)) : data);
      }
      for (const subject of everywhere) hostile.publish(subject, new Uint8Array(300_000));
      const after = await park.settle();
      expect(after[0]?.generation.number).toBe((before[0]?.generation.number ?? 0) + 1);
      expect(after[0]?.statements).toBe((before[0]?.statements ?? 0) + 1);
      const refused = after.map(({ counters }) => counters["messagesRefused"] ?? 0);
      expect(Math.min(...refused)).toBeGreaterThan(20);
      await hostile.close();
    });

    held(
      "Fleet refuses a second use of a token, a clock that is wrong, and a revoked node that joins again, each by its code",
      async () => {
        const node = pick(4);
        const first = pick(0);
        const elsewhere = (token: string, nodeName: string, skewMs = 0) =>
          expect(node.join(token, { nodeName, skewMs, elsewhere: true })).rejects;
        const spent = await first.token();
        await node.join(spent, { nodeName: "passenger", elsewhere: true });
        await elsewhere(spent, "thief").toMatchObject({ code: "token_spent" });
        await elsewhere(await first.token({ nodeName: "someone" }), "other").toMatchObject({ code: "join_name" });
        await elsewhere(await first.token(), "late", 400_000).toMatchObject({ code: "join_clock" });
        await elsewhere(await first.token(), node.name).toMatchObject({ code: "node_exists" });
        await revoke(first, { type: "node", value: node.name });
        await elsewhere(await first.token(), node.name).toMatchObject({ code: "node_revoked" });
        const events = (await first.events()).filter(({ event }) => event === "join refused");
        expect(events.length).toBeGreaterThanOrEqual(5);
        await node.stop();
        // It starts, knows that it is revoked or is told, and nobody hears it.
        await node.start();
        await node.converge();
        members = park.nodes.filter((each) => each !== node);
        await park.until(
          "its word is not taken",
          (views) => views.every(({ nodes }) => nodes.find(({ name }) => name === node.name)?.state === "revoked"),
          members,
        );
      },
    );
  },
);
