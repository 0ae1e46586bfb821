// Nodes that are never there at the same time: the broker's key-value store is where their statements meet. Without it, a peer has to come back.

import { afterEach, describe, expect, test } from "bun:test";
import { connect, headers } from "nats";
import { systemClock } from "../../src/clock.ts";
import { openNats } from "../../src/federation/nats.ts";
import { parseStatement } from "../../src/federation/statement.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import { identityDocument, openFleetPark, type Park, type ParkNode, TRUST_DOMAIN } from "./fleet_park.ts";
import { NATS_SERVER, type NatsPark, openPark } from "./nats_server.ts";

const TEST_MS = 60_000;
const PATIENCE_MS = 20_000;
/** Some rounds would fit: what did not come by then does not come. */
const QUIET_MS = 3000;
const idOf = (number: number) => `spiffe://${TRUST_DOMAIN}/w/${number}`;

let nats: NatsPark | undefined;
let park: Park | undefined;

afterEach(async () => {
  await park?.leave();
  await nats?.leave();
  park = undefined;
  nats = undefined;
}, TEST_MS);

interface Three {
  readonly park: Park;
  readonly url: string;
  readonly author: ParkNode;
  readonly witness: ParkNode;
  readonly late: ParkNode;
}

/** All know the same; then the late one leaves. */
async function three(jetstream: boolean, prepare = async (_url: string): Promise<void> => undefined): Promise<Three> {
  nats = openPark();
  const server = await nats.single({ jetstream });
  await prepare(server.url);
  park = await openFleetPark([server], 3, 1);
  const [author, witness, late] = park.nodes as readonly [ParkNode, ParkNode, ParkNode];
  await late.stop();
  return { park, url: server.url, author, witness, late };
}

/** The names of the statements in the broker's store, until all of these are among them. */
async function untilStored(url: string, ...wanted: readonly string[]): Promise<void> {
  const reader = openNats({ servers: [url], name: "reader", clock: systemClock, random: Math.random });
  await new Promise<void>((resolve) => reader.onState(({ phase }) => phase === "connected" && resolve()));
  try {
    let names: string[] = [];
    for (const end = performance.now() + PATIENCE_MS; performance.now() < end; await Bun.sleep(50)) {
      const store = await reader.store(fleetSubjects(TRUST_DOMAIN).store);
      const values = await Array.fromAsync(store?.list(AbortSignal.timeout(PATIENCE_MS)) ?? []);
      names = values.map((value) => parseStatement(value).name);
      if (wanted.every((name) => names.includes(name))) return;
    }
    throw new Error(`the store has ${names.join(", ")}`);
  } finally {
    await reader.close();
  }
}

/** One rule and one revocation. */
async function say({ park: all, author }: Three, number: number): Promise<readonly string[]> {
  await all.apply(identityDocument(number), author);
  await author.revoke({ type: "id", value: idOf(number) });
  return [`WorkloadIdentity/identity-${number}`, `id:${idOf(number)}`];
}

/** What somebody with the broker's rights does to every key: deletes it, purges it, or says of a true value that it is deleted. The last one is deleted. */
async function deleteAll(url: string): Promise<number> {
  const client = await connect({ servers: url });
  try {
    const bucket = fleetSubjects(TRUST_DOMAIN).store;
    const js = client.jetstream();
    const kv = await js.views.kv(bucket, { bindOnly: true });
    const keys = await Array.fromAsync(await kv.keys());
    for (const [i, key] of keys.entries()) {
      const { value = new Uint8Array() } = (await kv.get(key)) ?? {};
      const said = headers();
      said.set("KV-Operation", i % 2 === 0 ? "DEL" : "PURGE");
      const isLie = i % 3 === 0 && i < keys.length - 1;
      if (isLie) await js.publish(`$KV.${bucket}.${key}`, value, { headers: said });
      else if (i % 2 === 0 && i < keys.length - 1) await kv.purge(key);
      else await kv.delete(key);
    }
    return keys.length;
  } finally {
    await client.close();
  }
}

async function knows(node: ParkNode, number: number): Promise<boolean> {
  const { generation, nodes, revocations } = await node.status();
  const isApplied = nodes.find(({ name }) => name === node.name)?.isCurrent === true;
  const isRevoked = revocations.some(({ target }) => target === `id:${idOf(number)}`);
  return generation.number === number && isApplied && isRevoked;
}

async function untilKnown(node: ParkNode, number: number): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end; await Bun.sleep(30)) {
    if (await knows(node, number)) return;
  }
  throw new Error(`${node.name} does not know what was said: ${JSON.stringify(await node.status())}`);
}

describe.skipIf(NATS_SERVER === null)("MeetingPoint (skipped without nats-server)", () => {
  test(
    "brings what was said to a node that comes when its author and every other node are gone",
    async () => {
      const all = await three(true);
      const { author, witness, late, url } = all;
      await untilStored(url, ...(await say(all, 1)));
      const { generation } = await author.status();
      await author.stop();
      await witness.stop();
      await late.start();
      await untilKnown(late, 1);
      const view = await late.status();
      expect(view.generation).toEqual(generation);
      // Nobody was there to agree with.
      expect(view.agreedAt).toBeUndefined();
    },
    TEST_MS,
  );

  test(
    "leaves there what a node said without a broker, when it has one again",
    async () => {
      const all = await three(true);
      const { author, witness, late, url } = all;
      await witness.stop();
      for (const proxy of author.proxies) proxy.isCut = true;
      await all.park.until("it is away", ([view]) => view?.state === "offline", [author]);
      const names = await say(all, 1);
      for (const proxy of author.proxies) proxy.isCut = false;
      await untilStored(url, ...names);
      await author.stop();
      await late.start();
      await untilKnown(late, 1);
      expect((await late.status()).agreedAt).toBeUndefined();
    },
    TEST_MS,
  );

  test(
    "loses nothing to a broker that deletes and purges what lies there, reads none of that as a word, and puts it there again",
    async () => {
      const all = await three(true);
      const { author, witness, late, url } = all;
      const names = await say(all, 1);
      await untilStored(url, ...names);
      await untilKnown(witness, 1);
      const before = await witness.status();
      expect(await deleteAll(url)).toBeGreaterThan(names.length);
      await author.stop();
      await witness.stop();
      // The first that comes puts all back.
      await witness.start();
      await untilStored(url, ...names);
      const { counters, generation, revocations } = await witness.status();
      expect({ generation, revocations }).toEqual({ generation: before.generation, revocations: before.revocations });
      expect(counters["statementsRefused"]).toBe(0);
      await witness.stop();
      await late.start();
      await untilKnown(late, 1);
      expect((await late.status()).agreedAt).toBeUndefined();
    },
    TEST_MS,
  );

  test(
    "has a bound in octets, and when it is full the nodes go on by messages alone and lose nothing",
    async () => {
      const bucket = fleetSubjects(TRUST_DOMAIN).store;
      const boundAt = async (url: string) => {
        const client = await connect({ servers: url });
        const { config, state } = await (await client.jetstreamManager()).streams.info(`KV_${bucket}`);
        await client.close();
        return { bound: config.max_bytes, used: state.bytes };
      };
      const all = await three(true, async (url) => {
        const client = await connect({ servers: url });
        await client.jetstream().views.kv(bucket, { history: 1, max_bytes: 4096 });
        await client.close();
      });
      const { author, witness, late, url } = all;
      for (const number of [1, 2, 3, 4]) await say(all, number);
      await untilKnown(witness, 4);
      const { bound, used } = await boundAt(url);
      expect(bound).toBe(4096);
      expect(used).toBeLessThanOrEqual(4096);
      // What did not fit comes from whoever has it.
      await author.stop();
      await late.start();
      await untilKnown(late, 4);
    },
    TEST_MS,
  );

  test(
    "is not there with core NATS: the late node learns nothing alone, and all when a peer is back",
    async () => {
      const all = await three(false);
      const { author, witness, late } = all;
      await say(all, 1);
      await untilKnown(witness, 1);
      await author.stop();
      await witness.stop();
      await late.start();
      await all.park.until("it is connected", ([view]) => view?.state === "connected", [late]);
      await Bun.sleep(QUIET_MS);
      const alone = await late.status();
      expect(alone.generation.number).toBe(0);
      expect(alone.revocations).toEqual([]);
      // Not its author: any node that knows it will do.
      await witness.start();
      await untilKnown(late, 1);
    },
    TEST_MS,
  );
});
