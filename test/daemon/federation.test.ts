// Two daemons in two trust domains: bundles by command and by endpoint, peers judged by them, and all of it gone when the rule goes.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import { CUT_BY } from "../../src/abi.ts";
import { WIDTH } from "../../src/cli/grid.ts";
import { runCli } from "../../src/cli.ts";
import type { BundleView, DomainView, LoadView } from "../../src/daemon/control/bundle.ts";
import type { EndpointView } from "../../src/daemon/control/port.ts";
import { fakeTerminal } from "../cli/fake_terminal.ts";
import { buildHouse, eventually, type House, settle } from "./house.ts";

const HOUR_MS = 3_600_000;

let ours: House;
let theirs: House;
beforeEach(async () => {
  ours = await buildHouse("edge.test");
  theirs = await buildHouse("partner.test");
});
afterEach(async () => {
  await ours.leave();
  await theirs.leave();
});

const ANY_PORT = { host: "127.0.0.1", port: 0 };

function rules(name: string, trustDomain: string, endpoint = ""): string {
  return `
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: ${name} }
spec: { workloadID: ${name}, selectors: { process:exe: /usr/bin/curl } }
---
apiVersion: riprap.io/v1
kind: TrustDomain
metadata: { name: other }
spec: { trustDomain: ${trustDomain}${endpoint} }
`;
}

async function riprap(house: House, ...words: string[]) {
  const terminal = fakeTerminal(words.at(-1)?.startsWith("{") ? words.pop() : "");
  const status = await runCli([...words, "--socket", house.config.controlSocket], terminal);
  return { status, out: terminal.out.join("\n"), err: terminal.err.join("\n") };
}

async function ask<T>(house: House, ...words: string[]): Promise<T> {
  const { status, out, err } = await riprap(house, ...words, "--json");
  if (status !== 0) throw new Error(err);
  return JSON.parse(out) as T;
}

const bundleOf = (house: House, name: string) =>
  riprap(house, "bundle", "get", name, "--format", "spiffe").then(({ out }) => out);

async function chainOf(house: House): Promise<readonly Uint8Array[]> {
  const process = house.kernel.exec();
  await settle();
  return process.svid?.chain ?? [];
}

let asks = 100n;
async function verify(house: House, chain: readonly Uint8Array[]) {
  asks += 1n;
  const about = { flow: 1n, instance: 1n, trustGeneration: 1n, peerIsServer: 1 };
  house.kernel.send("verify", { ...about, ask: asks, chain });
  await settle();
  return house.kernel.ofType("verified").find((answer) => answer.ask === asks);
}

describe("riprap bundle set", () => {
  test("bundle set makes a foreign chain good, and the removal of its TrustDomain cuts its peers (rows B-1, B-11, F-23)", async () => {
    ours.writeRules("rules.yaml", rules("web", "partner.test"));
    theirs.writeRules("rules.yaml", rules("orders", "edge.test"));
    const daemon = await ours.start();
    await theirs.start();
    const chain = await chainOf(theirs);
    expect((await verify(ours, chain))?.alert).toBe(48);
    expect(daemon.status().warnings.join()).toContain("No bundle of partner.test is held");
    expect(daemon.metrics()).toContain("riprap_foreign_bundles_held 0");
    const before = daemon.status().trust.applied;

    const document = await bundleOf(theirs, "partner.test");
    const told = await riprap(ours, "bundle", "set", "partner.test", "-", document);
    expect(told.status).toBe(0);
    const shown = await ask<BundleView>(theirs, "bundle", "get", "partner.test");
    expect(told.out).toContain(`fingerprint ${shown.fingerprint}`);
    await settle();
    expect(daemon.status().trust).toEqual({ desired: before + 1, applied: before + 1 });
    expect(await verify(ours, chain)).toMatchObject({ alert: 0, spiffeId: "spiffe://partner.test/orders" });
    const { trust_domains: map } = JSON.parse((await riprap(ours, "bundle", "map")).out);
    expect(Object.keys(map)).toEqual(["edge.test", "partner.test"]);
    expect(map["partner.test"].keys[0].x5c).toEqual(JSON.parse(document).keys[0].x5c);
    // Theirs is not ours: an ID of our domain needs our roots.
    expect((await verify(theirs, await chainOf(ours)))?.alert).toBe(48);

    await riprap(ours, "delete", "TrustDomain", "other");
    await eventually(() => ours.kernel.ofType("cut").some(({ by }) => by === CUT_BY.peerId));
    expect(ours.kernel.ofType("cut").findLast(({ by }) => by === CUT_BY.peerId)?.id).toBe(
      "spiffe://partner.test/orders",
    );
    expect((await verify(ours, chain))?.alert).toBe(48);
    expect(daemon.status().trust.applied).toBe(before + 2);
  });

  test("bundle set refuses what nobody trusts, our own, an older one and nonsense, and forces what a person insists on", async () => {
    ours.writeRules("rules.yaml", rules("web", "partner.test"));
    await ours.start();
    const empty = (sequence: string) => `{"keys":[],"spiffe_sequence":${sequence}}`;
    const set = async (name: string, text: string, ...more: string[]) => {
      const { status, err } = await riprap(ours, "bundle", "set", name, "-", "--json", ...more, text);
      return status === 0 ? "taken" : JSON.parse(err).code;
    };
    expect(await set("third.test", empty("1"))).toBe("not_found");
    expect(await set("edge.test", empty("1"))).toBe("invalid");
    expect(await set("Partner.test", empty("1"))).toBe("trust_domain_invalid");
    expect(await set("partner.test", "{}")).toBe("bundle_invalid");
    expect(await set("partner.test", empty("9007199254740993"))).toBe("taken");
    expect(await set("partner.test", empty("9007199254740992"))).toBe("bundle_rollback");
    expect(await set("partner.test", empty("9007199254740992"), "--force")).toBe("taken");
    const [own, other] = await ask<DomainView[]>(ours, "bundle", "list");
    const lines = (await riprap(ours, "bundle", "list")).out.split("\n");
    expect(lines[0]).toStartWith("TRUST DOMAIN");
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(WIDTH);
    expect([own?.trustDomain, own?.bundle?.source]).toEqual(["edge.test", "own"]);
    expect([other?.trustDomain, other?.bundle?.sequence]).toEqual(["partner.test", "9007199254740992"]);
  });

  test("bundle load takes the map of another node, and peers are judged by it; a bad one changes nothing (rows B-11, B-12, B-15)", async () => {
    ours.writeRules("rules.yaml", rules("web", "partner.test"));
    theirs.writeRules("rules.yaml", rules("orders", "edge.test"));
    const daemon = await ours.start();
    await theirs.start();
    await riprap(theirs, "bundle", "set", "edge.test", "-", await bundleOf(ours, "edge.test"));
    const map = (await riprap(theirs, "bundle", "map")).out;
    const before = daemon.status().trust.applied;
    const third = map.replace(/\}\}\s*$/, ',"third.test":{"keys":[]}}}');
    const views = JSON.parse((await riprap(ours, "bundle", "load", "-", "--json", third)).out) as LoadView[];
    expect(views.map(({ trustDomain, outcome }) => [trustDomain, outcome])).toEqual([
      ["partner.test", "taken"],
      ["edge.test", "own"],
      ["third.test", "no_rule"],
    ]);
    const shown = await ask<BundleView>(theirs, "bundle", "get", "partner.test");
    expect(views[0]?.bundle?.fingerprint).toBe(shown.fingerprint);
    await settle();
    expect(daemon.status().trust.applied).toBe(before + 1);
    expect(await verify(ours, await chainOf(theirs))).toMatchObject({ alert: 0 });
    const again = await riprap(ours, "bundle", "load", "-", map);
    expect([again.status, again.out.includes("partner.test  is held already")]).toEqual([0, true]);
    expect(again.out).toContain(`partner.test: fingerprint ${shown.fingerprint}`);

    const load = async (text: string, ...more: string[]) => {
      const { status, err } = await riprap(ours, "bundle", "load", "-", "--json", ...more, text);
      return status === 0 ? "taken" : JSON.parse(err).code;
    };
    const empty = (sequence: string) => `{"trust_domains":{"partner.test":{"keys":[],"spiffe_sequence":${sequence}}}}`;
    expect(await load("{}")).toBe("bundle_map_invalid");
    expect(await load('{"trust_domains":{"partner.test":{"keys":[]},"partner.test":{"keys":[]}}}')).toBe(
      "bundle_map_invalid",
    );
    expect(await load(empty("0"))).toBe("bundle_rollback");
    expect(await verify(ours, await chainOf(theirs))).toMatchObject({ alert: 0 });
    expect(await load(empty("0"), "--force")).toBe("taken");
    expect((await verify(ours, await chainOf(theirs)))?.alert).toBe(48);
    const control = '{"trust_domains":{"\u009b2J":{},"\u009b2J":{}}}';
    expect((await riprap(ours, "bundle", "load", "-", control)).err).toContain('the key "?2J" is there twice');
    expect((await riprap(ours, "bundle", "load", "-", '{"trust_domains":{}}')).out).toContain("nothing has changed");
  });

  test("bundle get shows no control character of a foreign kid, and --json all of it", async () => {
    ours.writeRules("rules.yaml", rules("web", "partner.test"));
    await ours.start();
    const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const kid = `\u009b2J${"k".repeat(5000)}`;
    const keys = [{ ...publicKey.export({ format: "jwk" }), use: "jwt-svid", kid }];
    expect((await riprap(ours, "bundle", "set", "partner.test", "-", JSON.stringify({ keys }))).status).toBe(0);
    const { out } = await riprap(ours, "bundle", "get", "partner.test");
    expect([/[^\x20-\x7e\n]/.test(out), out.length < 2000, out.includes("?2Jkkk")]).toEqual([false, true, true]);
    expect((await ask<BundleView>(ours, "bundle", "get", "partner.test")).keys[0]?.key).toBe(kid);
  });

  test("a held bundle is there after a restart without the other side (row F-4)", async () => {
    ours.writeRules("rules.yaml", rules("web", "partner.test"));
    theirs.writeRules("rules.yaml", rules("orders", "edge.test"));
    const first = await ours.start();
    await theirs.start();
    const chain = await chainOf(theirs);
    await riprap(ours, "bundle", "set", "partner.test", "-", await bundleOf(theirs, "partner.test"));
    await first.stop();
    await ours.start();
    expect(await verify(ours, chain)).toMatchObject({ alert: 0 });
  });
});

describe("bundle endpoints", () => {
  async function federate(extra = ""): Promise<{ url: string }> {
    theirs.writeRules("rules.yaml", rules("orders", "edge.test"));
    await theirs.start({ config: { bundleListen: ANY_PORT } });
    const [endpoint] = await ask<EndpointView[]>(theirs, "bundle", "endpoint");
    expect(endpoint).toMatchObject({ state: "open", profile: "https_spiffe" });
    const url = `https://${endpoint?.address}/bundle`;
    const id = endpoint?.spiffeId ?? "";
    const bundle = JSON.stringify(await bundleOf(theirs, "partner.test"));
    const text = `, bundle: { inline: ${bundle} }, endpoint: { url: "${url}", profile: https_spiffe, spiffeID: "${id}" }${extra}`;
    ours.writeRules("rules.yaml", rules("web", "partner.test", text));
    return { url };
  }

  async function domain(): Promise<DomainView> {
    const views = await ask<DomainView[]>(ours, "bundle", "list");
    return views.find(({ trustDomain }) => trustDomain === "partner.test") as DomainView;
  }

  async function fetched(): Promise<DomainView> {
    let view = await domain();
    while (view.endpoint?.fetchedAt === undefined && view.endpoint?.error === undefined) {
      await new Promise<void>((resolve) => setTimeout(resolve, 5));
      view = await domain();
    }
    return view;
  }

  test("https_spiffe is authenticated by the bundle held and the exact ID, and asked again by its hint (rows F-6, F-20, F-21, F-3, F-24)", async () => {
    await federate();
    await ours.start();
    const view = await fetched();
    expect(view.endpoint?.error).toBeUndefined();
    expect(view.endpoint).toMatchObject({ failures: 0, profile: "https_spiffe" });
    const next = Date.parse(view.endpoint?.nextAt ?? "") - Date.parse(view.endpoint?.fetchedAt ?? "");
    expect([next <= 300_000, next >= 270_000]).toEqual([true, true]);
    expect(ours.log.map(({ event }) => event)).toContain("a bundle endpoint was asked");
    ours.clock.set(ours.clock.now() + next);
    await ours.clock.advance(1);
    await eventually(() => theirs.log.filter(({ event }) => event === "an endpoint was asked").length === 2);
  });

  test("https_spiffe refuses a server with another ID, and says which (row F-21)", async () => {
    const { url } = await federate();
    const bundle = JSON.stringify(await bundleOf(theirs, "partner.test"));
    const text = `, bundle: { inline: ${bundle} }, endpoint: { url: "${url}", profile: https_spiffe, spiffeID: "spiffe://partner.test/other" }`;
    ours.writeRules("rules.yaml", rules("web", "partner.test", text));
    await ours.start();
    expect((await fetched()).endpoint?.error).toContain(
      "it is spiffe://partner.test/riprap/bundle-endpoint, and spiffe://partner.test/other",
    );
  });

  test("https_spiffe asks nobody before there is a first bundle, and does when there is (row F-18)", async () => {
    const { url } = await federate();
    const text = `, endpoint: { url: "${url}", profile: https_spiffe, spiffeID: "spiffe://partner.test/riprap/bundle-endpoint" }`;
    ours.writeRules("rules.yaml", rules("web", "partner.test", text));
    await ours.start();
    expect((await fetched()).endpoint?.error).toContain("no bundle of partner.test is held");
    expect(theirs.log.map(({ event }) => event)).not.toContain("an endpoint was asked");
    await riprap(ours, "bundle", "set", "partner.test", "-", await bundleOf(theirs, "partner.test"));
    await eventually(() => theirs.log.some(({ event }) => event === "an endpoint was asked"));
  });

  test.each<[string, number, string]>([
    ["an hour behind", -HOUR_MS, "is not valid yet"],
    ["two hours ahead", 2 * HOUR_MS, "has expired"],
  ])(
    "https_spiffe refuses a server by a clock that is %s, keeps what it holds, and goes on when it is right",
    async (_, jump, why) => {
      await federate();
      const right = ours.clock.now();
      ours.clock.set(right + jump);
      await ours.start();
      const wrong = await fetched();
      expect(wrong.endpoint?.error).toContain(why);
      expect(wrong.bundle?.source).toBe("resource");
      // Set back, it waits as long as it meant to by its own count.
      ours.clock.set(Math.max(right, ours.clock.now()) + 300_000);
      theirs.clock.set(ours.clock.now());
      await theirs.clock.advance(1);
      await ours.clock.advance(1);
      await eventually(() => theirs.log.some(({ event }) => event === "an endpoint was asked"));
      let view = await domain();
      while (view.endpoint?.fetchedAt === undefined) view = await domain();
      expect(view.endpoint.failures).toBe(0);
    },
  );

  test("https_spiffe goes on with a renewed SVID of the endpoint", async () => {
    await federate();
    await ours.start();
    await fetched();
    const [before] = await ask<EndpointView[]>(theirs, "bundle", "endpoint");
    theirs.clock.set(theirs.clock.now() + HOUR_MS * 0.7);
    await theirs.clock.advance(1);
    const [after] = await ask<EndpointView[]>(theirs, "bundle", "endpoint");
    expect(Date.parse(after?.notAfter ?? "")).toBeGreaterThan(Date.parse(before?.notAfter ?? ""));
    ours.clock.set(theirs.clock.now());
    await ours.clock.advance(1);
    await eventually(() => theirs.log.filter(({ event }) => event === "an endpoint was asked").length >= 2);
    expect((await domain()).endpoint?.error).toBeUndefined();
  });

  test("bundle endpoint says what is wrong with one that cannot be opened, and the daemon runs without it", async () => {
    const certificate = join(ours.folder, "missing.crt");
    const daemon = await ours.start({ config: { webListen: ANY_PORT, webCertificate: certificate } });
    const [view] = await ask<EndpointView[]>(ours, "bundle", "endpoint");
    expect(view).toMatchObject({ state: "failed", profile: "https_web" });
    expect(view?.reason).toContain(certificate);
    expect(daemon.status().ready).toBe(true);
    expect(daemon.status().warnings.join()).toContain(`The web endpoint is degraded: Cannot serve with ${certificate}`);
    const shown = (await riprap(ours, "bundle", "endpoint")).out;
    expect(shown).toContain("https_web");
    expect((await riprap(ours, "bundle", "get", "edge.test")).out).toContain("fingerprint sha256:");
  });
});
