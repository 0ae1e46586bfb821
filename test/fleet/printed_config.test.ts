// Daemons over brokers that take what `riprap fleet nats-config` prints: TLS, a cluster, a leaf of it, with and without JetStream; and a member of theirs that turns hostile.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { FleetStatusView } from "../../src/daemon/fleet/port.ts";
import { random as seededRandom } from "../random.ts";
import { identityDocument, openFleetPark, type Park, type ParkNode } from "./fleet_park.ts";
import { HostileMember } from "./hostile_member.ts";
import { holdInvariants, readStatements } from "./invariant.ts";
import {
  freePort,
  makeServerTls,
  NATS_SERVER,
  type NatsPark,
  type NatsServer,
  openPark,
  type ServerTls,
} from "./nats_server.ts";

const TEST_MS = 180_000;
const JOIN_MS = 2000;
const JOINS = 5;
const NOTHING_SAID = { revoked: [], refusedChains: new Map(), takenChains: new Map() };

describe.skipIf(NATS_SERVER === null).each([true, false])(
  "daemons on brokers with the printed configuration, JetStream %p (skipped without nats-server)",
  (jetstream) => {
    let nats: NatsPark;
    let tls: ServerTls & { readonly caText: string };
    let cluster: readonly NatsServer[];
    let leaf: NatsServer;
    let leafPort: number;
    let park: Park;

    beforeAll(async () => {
      nats = openPark();
      tls = await makeServerTls(join(nats.folder, "tls"));
      cluster = await nats.cluster({ tls, jetstream });
      leafPort = freePort();
      const settings = () => ({ natsServers: cluster.map(({ url }) => url).join(","), natsCa: tls.ca });
      park = await openFleetPark([], 3, 11, { areApart: true, settings });
    }, TEST_MS);

    afterAll(async () => {
      await park?.leave();
      await nats?.leave();
    }, TEST_MS);

    const node = (index: number) => park.nodes[index] as ParkNode;
    const files = () => `cert_file: "${tls.certificate}", key_file: "${tls.key}", ca_file: "${tls.ca}"`;

    /** What a member of the cluster, and the leaf, have besides what they had. */
    async function printed(): Promise<{ member: string; hub: string; leaf: string }> {
      const print = (...options: string[]) => node(0).riprap("fleet", "nats-config", ...options);
      const member = await print(...(jetstream ? ["--jetstream"] : []));
      const account = /^ {2}(RIPRAP_\w+) \{/m.exec(member)?.[1];
      const user = `users: [ { user: leaf, password: leaf, account: ${account} } ]`;
      const listen = `leafnodes { listen: "127.0.0.1:${leafPort}", tls { ${files()} }, authorization { ${user} } }`;
      const remote = `url: "tls://leaf:leaf@127.0.0.1:${leafPort}", account: ${account}, tls { ca_file: "${tls.ca}" }`;
      return {
        member,
        hub: `${member}\n${listen}`,
        leaf: `${await print()}\nleafnodes { remotes: [ { ${remote} } ] }`,
      };
    }

    const areAllConnected = (views: readonly FleetStatusView[]) => views.every(({ state }) => state === "connected");

    test(
      "natsConfig() is taken by a cluster that starts again with it, and lets every daemon in by its nkey",
      async () => {
        const configs = await printed();
        for (const [i, server] of cluster.entries()) {
          await server.kill();
          await server.reload(i === 0 ? configs.hub : configs.member);
        }
        await park.until("they have lost it", (views) => views.every(({ state }) => state === "offline"));
        await Promise.all(cluster.map((server) => server.start()));
        leaf = await nats.single({ tls, config: configs.leaf });
        await park.until("all are connected", areAllConnected);
        await park.apply(identityDocument(1), node(1));
        await park.settle();
        if (!jetstream) return;
        // A cluster has no JetStream before it has chosen who leads, and the daemons come before that.
        const member = new HostileMember(node(1), {
          server: cluster[0]?.url ?? "",
          ca: tls.caText,
          random: Math.random,
        });
        await park.until("it is there", () => member.transport.state.phase === "connected");
        let stored: readonly string[] = [];
        for (const end = performance.now() + TEST_MS / 3; performance.now() < end; await Bun.sleep(200)) {
          stored = await member.stored();
          if (stored.includes("resource/WorkloadIdentity/identity-1")) break;
        }
        await member.transport.close();
        expect(stored).toContain("resource/WorkloadIdentity/identity-1");
      },
      TEST_MS,
    );

    test(
      "natsConfig() lets a machine join over a leaf by its token alone, and be a node when it is printed anew",
      async () => {
        const fourth = await park.enrol({ natsServers: leaf.url, natsCa: tls.ca });
        const configs = await printed();
        for (const [i, server] of cluster.entries()) await server.reload(i === 0 ? configs.hub : configs.member);
        // A reload can make members of a cluster (2.9.10) forget what is listened to behind a leaf, until the leaf connects again.
        await leaf.kill();
        await leaf.reload(configs.leaf);
        await leaf.start();
        await fourth.start();
        await park.settle();
        await park.apply(identityDocument(2), fourth);
        await node(0).revoke({ type: "id", value: "spiffe://park.example/gone" });
        await park.until("all know it", (views) => views.every(({ revocations }) => revocations.length === 1));
        const authoritiesIn = (view: FleetStatusView) =>
          view.nodes.find(({ name }) => name === fourth.name)?.authorities.length;
        await fourth.renew();
        await park.until("all know its next authority", (views) => views.every((view) => authoritiesIn(view) === 2));
        await park.settle();
        await holdInvariants(park.nodes, { ...NOTHING_SAID, revoked: ["id:spiffe://park.example/gone"] });
      },
      TEST_MS,
    );

    test(
      "natsConfig() gives each daemon all that it asks of the broker",
      async () => {
        await node(1).stop();
        await node(1).start();
        await park.settle();
        const logs = await Promise.all([...cluster, leaf].map((server) => server.log()));
        const refused = logs.flatMap((log) => log.split("\n").filter((line) => line.includes("Violation")));
        expect(refused.filter((line) => !line.includes("hostile"))).toEqual([]);
      },
      TEST_MS,
    );

    test(
      "riprap join is over within two seconds on an idle fleet",
      async () => {
        const took: number[] = [];
        while (took.length < JOINS) {
          const token = await node(0).token();
          const begun = performance.now();
          await node(3).join(token, { nodeName: `late-${took.length}`, elsewhere: true });
          took.push(Math.round(performance.now() - begun));
        }
        process.stdout.write(`join over TLS and a leaf, the whole command: ${took.join(", ")} ms\n`);
        const median = took.toSorted((a, b) => a - b)[(JOINS - 1) / 2];
        expect(median).toBeLessThan(JOIN_MS);
      },
      TEST_MS,
    );

    test(
      "Fleet takes nothing of a member in hostile hands, counts all of it, and hears the true one again",
      async () => {
        await park.settle();
        const [hostile, others] = [node(2), [node(0), node(1), node(3)]];
        const attack = new HostileMember(hostile, {
          ...{ server: cluster[1]?.url ?? "", ca: tls.caText, random: seededRandom(jetstream ? 21 : 22) },
        });
        await park.until("it is there", () => attack.transport.state.phase === "connected");
        // Something to hear: its own words, those of the others, questions to it and answers.
        await hostile.renew();
        await park.apply(identityDocument(3), node(1));
        await park.settle();
        await hostile.stop();
        await park.until("it has heard something", () => attack.heard.length > 5, others);
        await park.settle(others);
        const before = await wordsOf(others);
        const start = await countersOf(others);
        // Core NATS brings nothing to a server that does not know yet who listens beyond it.
        for (let probes = 0; ; await Bun.sleep(100)) {
          const seen = (await countersOf(others)).map(({ messages }, i) => messages - (start[i]?.messages ?? 0));
          if (probes > 0 && seen.every((count) => count > 0)) break;
          probes += 1;
          if (probes > 300)
            throw new Error(`not all hear it: ${seen}\n${await leaf.log()}\n${await cluster[0]?.log()}`);
          await attack.probe();
        }
        const counted = await atRest(others);
        const names = others.map(({ name }) => name);
        await attack.publishForeign(400, names);
        await attack.publishWrongEnvelopes(names);
        const { statements, unreadable } = await attack.publishWrongWords(names);
        const due = others.map(({ name }, i) => ({
          messages: (counted[i]?.messages ?? 0) + attack.tally.toAll + (attack.tally.to.get(name) ?? 0) + unreadable,
          statements: (counted[i]?.statements ?? 0) + statements,
        }));
        let now = await countersOf(others);
        for (const end = performance.now() + TEST_MS / 3; !Bun.deepEquals(now, due); now = await countersOf(others)) {
          if (performance.now() > end) break;
          await Bun.sleep(100);
        }
        expect(now).toEqual(due);
        attack.answerQuestions();
        const poison = await attack.poisonStore();
        expect(poison > 0).toBe(jetstream);
        // It reads the store when it starts.
        await node(1).stop();
        await node(1).start();
        await park.until(
          "it has judged what is in the store",
          ([view]) => {
            const { statementsRefused = 0, statementsStale = 0 } = view?.counters ?? {};
            return statementsRefused + statementsStale >= poison;
          },
          [node(1)],
        );
        await park.settle(others);
        expect(await wordsOf(others)).toEqual(before);
        await holdInvariants(others, NOTHING_SAID);
        await attack.transport.close();
        await hostile.start();
        await park.settle();
        expect((await hostile.events()).some(({ event }) => event === "recovered")).toBe(true);
        expect(
          (await Promise.all(park.nodes.map((each) => each.status()))).flatMap(({ warnings }) => warnings),
        ).toEqual([]);
      },
      TEST_MS,
    );

    /** What stands, without what nodes say of themselves by the minute. */
    async function wordsOf(nodes: readonly ParkNode[]): Promise<readonly string[][]> {
      return nodes.map(({ stateDir }) =>
        readStatements(stateDir)
          .filter(({ kind }) => kind !== "presence" && kind !== "endpoint")
          .map(({ key, hash }) => `${key} ${hash}`)
          .sort(),
      );
    }

    /** When all that is on its way has come. */
    async function atRest(nodes: readonly ParkNode[]) {
      for (let last = await countersOf(nodes); ; ) {
        await Bun.sleep(500);
        const now = await countersOf(nodes);
        if (Bun.deepEquals(now, last)) return now;
        last = now;
      }
    }

    async function countersOf(nodes: readonly ParkNode[]) {
      const views = await Promise.all(nodes.map((each) => each.status()));
      return views.map(({ counters }) => ({
        messages: counters["messagesRefused"] ?? 0,
        statements: counters["statementsRefused"] ?? 0,
      }));
    }
  },
);
