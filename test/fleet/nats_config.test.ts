// The printed server configuration as a real nats-server takes it, and what a client of one node's key can and cannot do there.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../src/clock.ts";
import { createNkey, openNats } from "../../src/federation/nats.ts";
import { natsConfig } from "../../src/federation/nats_config.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import type { Transport } from "../../src/federation/transport.ts";
import { NATS_SERVER, type NatsPark, type NatsServer, openPark } from "./nats_server.ts";

const SUBJECTS = fleetSubjects("edge.example");
const DATA = new TextEncoder().encode("x");
const keys = { alpha: createNkey(), beta: createNkey(), gamma: createNkey() };
const users = [
  { node: "alpha", nkey: keys.alpha.publicKey, isIssuer: true },
  { node: "beta", nkey: keys.beta.publicKey, isIssuer: false },
  { node: "gamma", nkey: keys.gamma.publicKey, isIssuer: false },
];

let park: NatsPark;
let server: NatsServer;
const open: Transport[] = [];

beforeAll(async () => {
  if (NATS_SERVER === null) return;
  park = openPark();
  const config = natsConfig({ trustDomain: "edge.example", users, hasStore: true, hasEnrolment: true });
  server = await park.single({ config, jetstream: true });
});

afterAll(async () => {
  for (const transport of open) await transport.close();
  await park?.leave();
});

async function as(node: keyof typeof keys | "enrolment"): Promise<Transport> {
  const transport = openNats({
    servers: [server.url],
    name: node,
    clock: systemClock,
    random: Math.random,
    inboxPrefix: node === "enrolment" ? SUBJECTS.joinInbox : SUBJECTS.inbox(node),
    ...(node === "enrolment" ? {} : { proof: { kind: "nkey", seed: keys[node].seed } as const }),
  });
  open.push(transport);
  await new Promise<void>((resolve) => transport.onState(({ phase }) => phase === "connected" && resolve()));
  return transport;
}

/** Why a server does not let a node in; nothing when it does. */
async function refusal(url: string, node: keyof typeof keys): Promise<string> {
  const proof = { kind: "nkey", seed: keys[node].seed } as const;
  const transport = openNats({ servers: [url], name: node, clock: systemClock, random: Math.random, proof });
  const state = await new Promise<Transport["state"]>((resolve) => transport.onState(resolve));
  await transport.close();
  return state.phase === "connecting" ? state.reason : "";
}

/** What of the subjects that `from` published to was heard by `to`. */
async function heardBy(to: Transport, listen: string, from: Transport, subjects: readonly string[]): Promise<string[]> {
  const heard: string[] = [];
  const subscription = to.subscribe(listen, ({ subject }) => void heard.push(subject));
  await Bun.sleep(50);
  for (const subject of subjects) from.publish(subject, DATA);
  await Bun.sleep(100);
  subscription.close();
  return heard;
}

describe("natsConfig()", () => {
  test.skipIf(NATS_SERVER === null)(
    "is a configuration that nats-server -t takes (skipped without nats-server)",
    () => {
      for (const hasStore of [false, true]) {
        const path = join(park.folder, "printed.conf");
        const jetstream = hasStore ? `jetstream { store_dir: "${park.folder}/js" }\n` : "";
        writeFileSync(
          path,
          `${jetstream}${natsConfig({ trustDomain: "edge.example", users, hasStore, hasEnrolment: hasStore })}`,
        );
        const { exitCode, stderr } = Bun.spawnSync([NATS_SERVER ?? "", "-t", "-c", path]);
        expect(`${exitCode} ${stderr}`).toMatch(/^0 /);
      }
    },
  );

  test.skipIf(NATS_SERVER === null)(
    "is an account beside those of other trust domains on one server (skipped without nats-server)",
    () => {
      const path = join(park.folder, "accounts.conf");
      const accounts = ["edge.example", "a.b.example", "a-b.example"].map((trustDomain, i) => {
        const one = users.slice(i, i + 1);
        return natsConfig({ trustDomain, users: one, hasStore: false, hasEnrolment: true, isAccountAlone: true });
      });
      // A server takes the later of two of one name for both.
      expect(accounts.map((text) => /^ {2}(RIPRAP_\w+) \{$/m.exec(text)?.[1])).toEqual([
        "RIPRAP_edge_example",
        "RIPRAP_a_b_example",
        expect.stringMatching(/^RIPRAP_a_b_example_X[0-9a-f]{12}$/),
      ]);
      writeFileSync(path, `accounts {\n${accounts.join("\n")}\n}\n`);
      const { exitCode, stderr } = Bun.spawnSync([NATS_SERVER ?? "", "-t", "-c", path]);
      expect(`${exitCode} ${stderr}`).toMatch(/^0 /);
    },
  );

  test.skipIf(NATS_SERVER === null)(
    "says to restart the server the first time, which a reload does not replace, and to reload it for a later node (skipped without nats-server)",
    async () => {
      const printed = (count: number) =>
        natsConfig({
          ...{ trustDomain: "edge.example", hasStore: false, hasEnrolment: true },
          users: users.slice(0, count),
        });
      expect(printed(1)).toContain("restart the server when it takes this in for the first time");
      expect(printed(1)).toContain("print it anew, and reload the server");
      const other = await park.single({ config: "" });
      const reasonOf = (node: keyof typeof keys) => refusal(other.url, node);
      await other.reload(printed(1));
      // Nothing of it is in force: whoever is in no list comes in.
      expect(await reasonOf("beta")).toBe("");
      await other.kill();
      await other.start();
      expect(await reasonOf("alpha")).toBe("");
      expect(await reasonOf("beta")).toContain("does not take this node's nkey");
      const { pid } = other;
      const proof = { kind: "nkey", seed: keys.alpha.seed } as const;
      const staying = openNats({ servers: [other.url], name: "alpha", clock: systemClock, random: Math.random, proof });
      open.push(staying);
      const phases: string[] = [];
      await new Promise<void>((resolve) => {
        staying.onState(({ phase }) => {
          phases.push(phase);
          resolve();
        });
      });
      await other.reload(printed(2));
      expect(await reasonOf("beta")).toBe("");
      expect(other.pid).toBe(pid);
      // Who was connected did not notice.
      expect(phases).toEqual(["connected"]);
    },
    20_000,
  );

  test("refuses two nodes with one nkey, which no server takes, and names both", () => {
    const users = ["alpha", "beta"].map((node) => ({ node, nkey: keys.alpha.publicKey, isIssuer: false }));
    const print = () => natsConfig({ trustDomain: "edge.example", users, hasStore: false, hasEnrolment: false });
    expect(print).toThrow(
      expect.objectContaining({ code: "nkey_twice", message: expect.stringMatching(/alpha and beta/) }),
    );
  });

  test("refuses what is no public nkey, which could end its line and begin another", () => {
    const wrong = { node: "alpha", nkey: `${keys.alpha.publicKey}\n}`, isIssuer: true };
    expect(() =>
      natsConfig({ trustDomain: "edge.example", users: [wrong], hasStore: false, hasEnrolment: false }),
    ).toThrow(expect.objectContaining({ code: "nkey_invalid" }));
  });

  test.skipIf(NATS_SERVER === null)(
    "lets a node speak under its own name alone, whatever a hostile client of its key publishes (skipped without nats-server)",
    async () => {
      const [alpha, hostile] = await Promise.all([as("alpha"), as("gamma")]);
      const tried = ["alpha", "beta", "gamma"].map((node) => SUBJECTS.gossip(node));
      const more = [SUBJECTS.bundle, SUBJECTS.join("t"), `${SUBJECTS.prefix}.other`, "riprap.else.gossip.gamma"];
      expect(await heardBy(alpha, SUBJECTS.allGossip, hostile, [...tried, ...more])).toEqual([
        SUBJECTS.gossip("gamma"),
      ]);
      // What is answered to another node, or asked of an issuing node, does not come to it.
      expect(await heardBy(hostile, `${SUBJECTS.inbox("alpha")}.>`, alpha, [`${SUBJECTS.inbox("alpha")}.x`])).toEqual(
        [],
      );
      expect(await heardBy(hostile, SUBJECTS.allJoins, await as("enrolment"), [SUBJECTS.join("t")])).toEqual([]);
      expect(await heardBy(hostile, ">", alpha, [SUBJECTS.gossip("alpha")])).toEqual([]);
    },
  );

  test.skipIf(NATS_SERVER === null)(
    "lets who has no nkey ask to join and get an answer, and nothing else (skipped without nats-server)",
    async () => {
      const [alpha, stranger] = await Promise.all([as("alpha"), as("enrolment")]);
      alpha.subscribe(SUBJECTS.allJoins, (message) => message.respond(DATA));
      await Bun.sleep(50);
      expect(await stranger.request(SUBJECTS.join("t"), DATA, 2000)).toEqual(DATA);
      expect(await heardBy(stranger, SUBJECTS.allGossip, alpha, [SUBJECTS.gossip("alpha")])).toEqual([]);
      expect(await heardBy(alpha, SUBJECTS.allGossip, stranger, [SUBJECTS.gossip("beta")])).toEqual([]);
    },
  );

  test.skipIf(NATS_SERVER === null)(
    "lets nodes ask one another and share the fleet's store, and no other (skipped without nats-server)",
    async () => {
      const [alpha, beta] = await Promise.all([as("alpha"), as("beta")]);
      beta.subscribe(SUBJECTS.ask("beta"), (message) => message.respond(DATA));
      await Bun.sleep(50);
      expect(await alpha.request(SUBJECTS.ask("beta"), DATA, 2000)).toEqual(DATA);
      const [ours, theirs] = await Promise.all([alpha.store(SUBJECTS.store), beta.store(SUBJECTS.store)]);
      expect(await ours?.put("key", DATA)).toBe(true);
      const values = await Array.fromAsync(theirs?.list(new AbortController().signal) ?? []);
      expect(values.map((value) => [...value])).toEqual([[...DATA]]);
      expect(await alpha.store("riprap_other")).toBeUndefined();
      const stream = `KV_${SUBJECTS.store}`;
      const ask = async (verb: string, name: string, body: object) => {
        const text = new TextEncoder().encode(JSON.stringify(body));
        const answer = await beta.request(`$JS.API.STREAM.${verb}.${name}`, text, 300).catch(() => undefined);
        return answer === undefined ? "no answer" : JSON.parse(new TextDecoder().decode(answer)).error?.description;
      };
      const all = { subjects: [`${SUBJECTS.prefix}.>`], retention: "limits", storage: "memory" };
      expect(await ask("CREATE", stream, { ...all, name: stream })).toContain("already in use");
      expect(await ask("CREATE", stream, { ...all, name: "OTHER" })).toContain("does not match");
      for (const [verb, name] of [
        ["CREATE", "OTHER"],
        ["UPDATE", stream],
        ["PURGE", stream],
        ["DELETE", stream],
      ] as const)
        expect([verb, await ask(verb, name, { ...all, name })]).toEqual([verb, "no answer"]);
    },
    20_000,
  );
});
