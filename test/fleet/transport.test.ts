// The transport against real servers: alone, as a cluster, as a leaf, with and without JetStream, with TLS and nkeys.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "nats";
import { systemClock } from "../../src/clock.ts";
import { createNkey, openNats } from "../../src/federation/nats.ts";
import {
  MESSAGE_BYTES_MAX,
  type Refusal,
  type Transport,
  type TransportState,
} from "../../src/federation/transport.ts";
import { random as seededRandom } from "../random.ts";
import { NO_CHAOS, openChaosProxy } from "./chaos_proxy.ts";
import { freePort, makeServerTls, NATS_SERVER, type NatsPark, openPark } from "./nats_server.ts";

const HAS_SERVER = NATS_SERVER !== null;
const bytes = (text: string) => new TextEncoder().encode(text);
const textOf = (data: Uint8Array) => new TextDecoder().decode(data);

let park: NatsPark;
const open: Transport[] = [];

beforeAll(() => {
  park = openPark();
});

afterAll(async () => {
  for (const transport of open) await transport.close();
  await park.leave();
});

async function connectTo(urls: readonly string[], more: Partial<Parameters<typeof openNats>[0]> = {}) {
  const transport = openNats({ servers: urls, name: "test", clock: systemClock, random: Math.random, ...more });
  open.push(transport);
  await reach(transport, (state) => state.phase === "connected");
  return transport;
}

function reach(transport: Transport, holds: (state: TransportState) => boolean): Promise<void> {
  return new Promise((resolve) => {
    if (holds(transport.state)) resolve();
    transport.onState((state) => {
      if (holds(state)) resolve();
    });
  });
}

/** Until a message sent again and again arrives: interest takes a moment to travel between servers. */
async function delivered(from: Transport, to: Transport, subject: string): Promise<string> {
  return new Promise((resolve) => {
    const heard = to.subscribe(subject, ({ data }) => {
      clearInterval(timer);
      heard.close();
      resolve(textOf(data));
    });
    const timer = setInterval(() => from.publish(subject, bytes("hello")), 20);
  });
}

describe.skipIf(!HAS_SERVER).each([false, true])(
  "openNats() with JetStream %p (skipped without nats-server)",
  (jetstream) => {
    test("publish() reaches a subscriber over another member of a cluster, and over a leaf", async () => {
      const leafPort = freePort();
      const hub = await park.single({ jetstream, leafPort });
      const leaf = await park.single({ leafOf: leafPort });
      const cluster = await park.cluster({ jetstream });
      const [a, b] = await Promise.all([connectTo([hub.url]), connectTo([leaf.url])]);
      expect(await delivered(a, b, "t.leaf")).toBe("hello");
      const [c, d] = await Promise.all([connectTo([cluster[0]?.url ?? ""]), connectTo([cluster[2]?.url ?? ""])]);
      expect(await delivered(c, d, "t.cluster")).toBe("hello");
    });

    test("request() has an answer, and refuses by code when nobody is there or nobody answers", async () => {
      const server = await park.single({ jetstream });
      const [a, b] = await Promise.all([connectTo([server.url]), connectTo([server.url])]);
      b.subscribe("t.ask", (message) => message.respond(bytes(`yes ${textOf(message.data)}`)));
      b.subscribe("t.silent", () => undefined);
      await delivered(a, b, "t.ready");
      expect(textOf(await a.request("t.ask", bytes("?"), 2000))).toBe("yes ?");
      await expect(a.request("t.nobody", bytes("?"), 500)).rejects.toMatchObject({ code: "nats_nobody_answers" });
      await expect(a.request("t.silent", bytes("?"), 100)).rejects.toMatchObject({ code: "nats_no_answer" });
    });

    test("store() keeps the newest value of each key where there is JetStream, and is not there where not", async () => {
      const server = await park.single({ jetstream });
      const a = await connectTo([server.url]);
      const store = await a.store("riprap_test");
      expect(store !== undefined).toBe(jetstream);
      if (store === undefined) return;
      const values = async () =>
        (await Array.fromAsync(store.list(new AbortController().signal))).map((value) => textOf(value)).sort();
      expect(await values()).toEqual([]);
      await store.put("one", bytes("1"));
      await store.put("two", bytes("2"));
      await store.put("one", bytes("3"));
      expect(await values()).toEqual(["2", "3"]);
      expect(await store.put("big", new Uint8Array(MESSAGE_BYTES_MAX + 1))).toBe(false);
      // The park's servers have 256 megabytes for all that they keep: the first bound has no room there.
      const client = await connect({ servers: server.url });
      const { config } = await (await client.jetstreamManager()).streams.info("KV_riprap_test");
      await client.close();
      expect(config.max_bytes).toBe(64 * 1024 * 1024);
    });
  },
);

describe.skipIf(!HAS_SERVER)("openNats() (skipped without nats-server)", () => {
  test("goes over to another server when its own is killed, and its subscriptions come along", async () => {
    const servers = await park.cluster();
    const urls = servers.map((server) => server.url);
    const [a, b] = await Promise.all([connectTo(urls), connectTo(urls)]);
    let heard = 0;
    b.subscribe("t.over", () => void heard++);
    for (const server of servers) {
      await server.kill();
      const before = heard;
      for (let tries = 0; heard === before && tries < 500; tries++) {
        a.publish("t.over", bytes("x"));
        await Bun.sleep(20);
      }
      expect(heard).toBeGreaterThan(before);
      await server.start();
    }
  }, 30_000);

  test("publish() and request() refuse while there is no connection, and say why", async () => {
    const nowhere = openNats({
      servers: [`nats://127.0.0.1:${freePort()}`],
      name: "test",
      clock: systemClock,
      random: Math.random,
    });
    open.push(nowhere);
    expect(nowhere.publish("t.x", bytes("x"))).toBe(false);
    await expect(nowhere.request("t.x", bytes("x"), 100)).rejects.toMatchObject({ code: "nats_not_connected" });
    await reach(nowhere, (state) => state.phase === "connecting" && /no server/.test(state.reason));
  });

  test("publish() refuses a message that is larger than the bound", async () => {
    const server = await park.single();
    const a = await connectTo([server.url]);
    expect(a.publish("t.big", new Uint8Array(MESSAGE_BYTES_MAX + 1))).toBe(false);
    expect(a.publish("t.big", new Uint8Array(MESSAGE_BYTES_MAX))).toBe(true);
  });

  test("says what the broker does not let it publish or ask, each once, until a later message is taken", async () => {
    const { seed, publicKey } = createNkey();
    const config = (denied: string) =>
      `authorization { users: [{ nkey: ${publicKey}, permissions: { publish: { deny: [${denied}] } } }] }`;
    const server = await park.single({ config: config('"t.no", "t.ask.*", "$JS.>"') });
    const a = await connectTo([server.url], { proof: { kind: "nkey", seed } });
    const told: Refusal[] = [];
    a.onRefusal((refusal) => void told.push(refusal));
    const settled = async (count: number) => {
      for (let tries = 0; told.length < count && tries < 500; tries++) {
        for (const subject of ["t.no", "t.yes", "$JS.API.INFO"]) a.publish(subject, bytes("x"));
        await a.request("t.ask.b", bytes("?"), 20).catch(() => undefined);
      }
      return told.splice(0).sort((one, other) => (one.subject < other.subject ? -1 : 1));
    };
    const both = ["t.ask.b", "t.no"].map((subject) => ({ verb: "publish", subject }) as const);
    expect(await settled(2)).toEqual(both.map((one) => ({ ...one, isRefused: true })));
    expect(a.refused.toSorted((one, other) => (one.subject < other.subject ? -1 : 1))).toEqual(both);
    expect(told).toEqual([]);
    await server.reload(config('"t.never"'));
    expect(await settled(2)).toEqual(both.map((one) => ({ ...one, isRefused: false })));
    expect(a.refused).toEqual([]);
  }, 30_000);

  test("proves itself by nkey over TLS; a wrong key, a foreign CA and a server without TLS are each refused", async () => {
    const tls = await makeServerTls(`${park.folder}/tls`);
    const other = await makeServerTls(`${park.folder}/other`);
    const { seed, publicKey } = createNkey();
    const config = `authorization { users: [ { nkey: ${publicKey} } ] }`;
    const server = await park.single({ tls, config });
    const plain = await park.single({ config });
    const proof = { kind: "nkey", seed } as const;
    const good = await connectTo([server.url], { proof, ca: tls.caText });
    expect(good.state).toMatchObject({ phase: "connected" });
    const stranger = { kind: "nkey", seed: createNkey().seed } as const;
    const refusals: [Partial<Parameters<typeof openNats>[0]>, string, RegExp][] = [
      [{ proof: stranger, ca: tls.caText }, server.url, /nkey/],
      [{ proof, ca: other.caText }, server.url, /certificate|verify|self.signed/i],
      [{ proof, ca: tls.caText }, plain.url, /TLS/],
    ];
    for (const [more, url, reason] of refusals) {
      const transport = openNats({ servers: [url], name: "test", clock: systemClock, random: Math.random, ...more });
      open.push(transport);
      await reach(transport, (state) => state.phase === "connecting" && reason.test(state.reason));
    }
  });

  test("tls:// demands TLS without a CA of its own too, for each server that is named so", async () => {
    const tls = await makeServerTls(`${park.folder}/demanded`);
    const [server, plain, leaf] = [await park.single({ tls }), await park.single(), await park.single()];
    const named = ({ port }: { port: number }, host = "127.0.0.1") => `tls://${host}:${port}`;
    const good = await connectTo([named(server)], { ca: tls.caText });
    expect(good.state).toMatchObject({ phase: "connected" });
    for (const [url, reason] of [
      [named(plain), "the server speaks no TLS, which natsCa or its tls:// URL asks for"],
      [named(plain, "localhost"), "the server speaks no TLS"],
      // Its CA is none of the system's.
      [named(server), "certificate"],
    ] as const) {
      const told: TransportState[] = [];
      const transport = openNats({ servers: [url], name: "test", clock: systemClock, random: Math.random });
      open.push(transport);
      transport.onState((state) => void told.push(state));
      await reach(transport, (state) => state.phase === "connecting" && state.reason.includes(reason));
      expect(told.map(({ phase }) => phase)).not.toContain("connected");
    }
    // Each as it is named: one server of the fleet may be a leaf on this machine.
    const both = await connectTo([named(plain), leaf.url]);
    expect(both.state).toMatchObject({ phase: "connected", server: `127.0.0.1:${leaf.port}` });
  });

  test("openChaosProxy() drops and repeats messages by its seed, and a cut ends connections", async () => {
    const server = await park.single();
    const proxy = await openChaosProxy(() => server.port, seededRandom(7));
    const [a, b] = [await connectTo([proxy.url]), await connectTo([server.url])];
    await delivered(a, b, "t.through");
    let heard = 0;
    b.subscribe("t.count", () => void heard++);
    await delivered(a, b, "t.through2");
    proxy.chaos = { ...NO_CHAOS, drop: 0.5, repeat: 0.2 };
    for (let i = 0; i < 200; i++) a.publish("t.count", bytes(String(i)));
    proxy.chaos = NO_CHAOS;
    await Bun.sleep(100);
    proxy.isCut = true;
    await reach(a, (state) => state.phase === "connecting");
    proxy.isCut = false;
    await reach(a, (state) => state.phase === "connected");
    expect(heard).toBeGreaterThan(0);
    await proxy.close();
  });
});
