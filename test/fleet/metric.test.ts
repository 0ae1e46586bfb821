// What a scrape of a node tells of its fleet: how long ago it heard and agreed, what never came, and what was refused and why.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { systemClock } from "../../src/clock.ts";
import { parseEnvelope } from "../../src/federation/envelope.ts";
import { GATE_REFUSALS } from "../../src/federation/gate.ts";
import { openNats } from "../../src/federation/nats.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import { NO_CHAOS } from "./chaos_proxy.ts";
import { identityDocument, openFleetPark, type Park, type ParkNode, TRUST_DOMAIN } from "./fleet_park.ts";
import { freePort, NATS_SERVER, type NatsPark, type NatsServer, openPark } from "./nats_server.ts";

const TEST_MS = 60_000;
const PATIENCE_MS = 20_000;
const healthPort = NATS_SERVER === null ? 0 : freePort();

let nats: NatsPark;
let server: NatsServer;
let park: Park;

beforeAll(async () => {
  if (NATS_SERVER === null) return;
  nats = openPark();
  server = await nats.single();
  const settings = (index: number) => (index === 1 ? { healthListen: `127.0.0.1:${healthPort}` } : {});
  park = await openFleetPark([server], 2, 1, { settings });
}, TEST_MS);

afterAll(async () => {
  await park?.leave();
  await nats?.leave();
}, TEST_MS);

/** One sample of a scrape of the second node's health listener; NaN when it is not there. */
async function scrape(name: string, label = ""): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${healthPort}/metrics`)).text();
  const line = text.split("\n").find((each) => each.startsWith(`riprap_fleet_${name}${label} `));
  return Number(line?.split(" ").at(-1));
}

async function until(name: string, holds: (value: number) => boolean, label = ""): Promise<void> {
  let value = await scrape(name, label);
  for (const end = performance.now() + PATIENCE_MS; !holds(value); value = await scrape(name, label)) {
    if (performance.now() > end) throw new Error(`riprap_fleet_${name}${label} is ${value}`);
    await Bun.sleep(50);
  }
}

const pair = () => park.nodes as readonly [ParkNode, ParkNode];

describe.skipIf(NATS_SERVER === null)("formatFleetMetrics() (skipped without nats-server)", () => {
  test(
    "is in what the control socket and the health listener say, each sample with its help and type",
    async () => {
      const [, second] = pair();
      const listener = await (await fetch(`http://127.0.0.1:${healthPort}/metrics`)).text();
      const names = (text: string) => text.split("\n").flatMap((line) => /^riprap_fleet_\w+/.exec(line)?.[0] ?? []);
      expect(names(listener)).toEqual(names(await second.metrics()));
      expect(names(listener).length).toBeGreaterThan(20);
      for (const name of names(listener)) {
        expect(listener).toMatch(new RegExp(`# HELP ${name} \\S.*\\n# TYPE ${name} (gauge|counter)\\n${name}[ {]`));
      }
      expect(await scrape("member")).toBe(1);
      expect(await scrape("connected")).toBe(1);
      expect(await scrape("nodes")).toBe(2);
      expect(await scrape("lag_seconds")).toBeLessThan(5);
      for (const code of GATE_REFUSALS) expect(await scrape("messages_refused_total", `{reason="${code}"}`)).toBe(0);
    },
    TEST_MS,
  );

  test(
    "counts the messages that never came, when the next one shows the gap",
    async () => {
      const [first, second] = pair();
      // The first that is heard of a node is nobody's gap.
      const accepted = await scrape("messages_accepted_total");
      await park.apply(identityDocument(1), first);
      await until("messages_accepted_total", (value) => value > accepted);
      await park.settle();
      const before = await scrape("messages_missed_total");
      for (const proxy of second.proxies) proxy.chaos = { ...NO_CHAOS, drop: 1 };
      for (const number of [2, 3, 4]) await park.apply(identityDocument(number), first);
      await Bun.sleep(200);
      for (const proxy of second.proxies) proxy.chaos = NO_CHAOS;
      expect(await scrape("messages_missed_total")).toBe(before);
      await park.apply(identityDocument(5), first);
      await until("messages_missed_total", (value) => value >= before + 3);
      await park.settle();
    },
    TEST_MS,
  );

  test(
    "counts a refused message under its reason and no other",
    async () => {
      const [first] = pair();
      const subjects = fleetSubjects(TRUST_DOMAIN);
      const hostile = openNats({ servers: [server.url], name: "h", clock: systemClock, random: Math.random });
      const heard: Uint8Array[] = [];
      hostile.subscribe(subjects.gossip(first.name), ({ data }) => void heard.push(data));
      await new Promise<void>((resolve) => hostile.onState(({ phase }) => phase === "connected" && resolve()));
      await park.apply(identityDocument(6), first);
      await until("messages_accepted_total", () => heard.length > 0);
      const counts = async () =>
        Object.fromEntries(
          await Promise.all(
            GATE_REFUSALS.map(async (code) => [code, await scrape("messages_refused_total", `{reason="${code}"}`)]),
          ),
        );
      const before = await counts();
      const message = heard.at(-1) ?? new Uint8Array();
      const altered = Uint8Array.from(message);
      // The last octet of the signature; the payload is behind it.
      const at = parseEnvelope(message).proof.length - 1;
      altered[at] = (altered[at] ?? 0) ^ 1;
      // Cut short twice, on another's subject once, altered once.
      hostile.publish(subjects.gossip(first.name), message.subarray(0, 20));
      hostile.publish(subjects.gossip(first.name), message.subarray(0, 30));
      hostile.publish(subjects.gossip("node-1"), message);
      hostile.publish(subjects.gossip(first.name), altered);
      await until("messages_refused_total", (value) => value === before["malformed"] + 2, '{reason="malformed"}');
      await until("messages_refused_total", (value) => value === before["forged"] + 1, '{reason="forged"}');
      expect(await counts()).toEqual({
        ...before,
        malformed: before["malformed"] + 2,
        wrong_subject: before["wrong_subject"] + 1,
        forged: before["forged"] + 1,
      });
      await hostile.close();
    },
    TEST_MS,
  );

  test(
    "says how long this node has heard nobody and agreed with nobody, growing while it is cut off",
    async () => {
      const [first, second] = pair();
      await second.converge();
      expect(await scrape("agreement_age_seconds")).toBeLessThan(1);
      for (const proxy of second.proxies) proxy.isCut = true;
      await until("connected", (value) => value === 0);
      const [heard, agreed] = [await scrape("heard_age_seconds"), await scrape("agreement_age_seconds")];
      await Bun.sleep(1500);
      expect(await scrape("heard_age_seconds")).toBeGreaterThan(heard + 1);
      expect(await scrape("agreement_age_seconds")).toBeGreaterThan(agreed + 1);
      for (const proxy of second.proxies) proxy.isCut = false;
      await until("connected", (value) => value === 1);
      await park.apply(identityDocument(7), first);
      await until("heard_age_seconds", (value) => value < 1);
      await park.settle();
      await until("agreement_age_seconds", (value) => value < 1);
    },
    TEST_MS,
  );
});
