// The rules of a whole daemon over a fake kernel: from a file to the table in force, and what changes under a process.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ACTION, REASON } from "../../src/abi.ts";
import { lookup } from "../../src/policy.ts";
import { buildHouse, CURL_RULES, codeOf, eventually, type House, settle, TEMPLATE_RULES } from "./house.ts";

let house: House;
beforeEach(async () => {
  house = await buildHouse();
});
afterEach(async () => {
  await house.leave();
});

test("RuleKeeper keeps the last good generation when the files are broken", async () => {
  house.writeRules("curl.yaml", CURL_RULES);
  const daemon = await house.start({ watch: true });
  const good = house.kernel.table;
  house.writeRules("curl.yaml", CURL_RULES.replace("mode: enforce", "mode: strict"));
  // The watcher's event comes in its own time; the debounce after it is the clock's.
  while (daemon.status().rules.error === undefined) {
    await eventually(() => true);
    await house.clock.advance(200);
  }
  const { rules, ready, warnings } = daemon.status();
  expect(rules.error).toContain("curl.yaml:");
  expect(rules.desired).toBeGreaterThan(rules.applied);
  expect(ready).toBe(false);
  expect(warnings.join("\n")).toContain("The rules as written are not in force");
  expect(house.kernel.table).toBe(good as NonNullable<typeof good>);
  const process = house.kernel.exec();
  await settle();
  expect(process.state).toBe("ready");
});

test("apply() puts a resource in force and writes it to its own file when all of it is good", async () => {
  const daemon = await house.start();
  const view = await daemon.apply({ name: "mine.yaml", text: CURL_RULES });
  expect(view.written.map((file) => file.split("/").at(-1)).sort()).toEqual([
    "access_policy-curl.yaml",
    "workload_identity-curl.yaml",
  ]);
  expect(view.generation).toBe(Number(house.kernel.tableGeneration));
  const process = house.kernel.exec();
  await settle();
  expect(process.state).toBe("ready");
  expect(daemon.resources().map(({ kind, name }) => `${kind}/${name}`)).toEqual([
    "WorkloadIdentity/curl",
    "AccessPolicy/curl",
  ]);
  expect(daemon.resources("accesspolicy").length).toBe(1);
});

test("apply() writes nothing when one resource of several is wrong", async () => {
  const daemon = await house.start();
  const text = CURL_RULES.replace("mode: enforce", "mode: strict");
  await expect(daemon.apply({ name: "mine.yaml", text })).rejects.toThrow("mine.yaml:");
  expect(await codeOf(daemon.apply({ name: "mine.yaml", text: "# nothing\n" }))).toBe("invalid");
  expect(daemon.resources()).toEqual([]);
  const process = house.kernel.exec();
  await settle();
  expect(process.state).toBe("unmanaged");
});

test("apply() takes a resource out of another file when it had it before", async () => {
  house.writeRules("all.yaml", CURL_RULES);
  const daemon = await house.start();
  await daemon.apply({ name: "mine.yaml", text: CURL_RULES.split("---")[1]?.replace("enforce", "observe") ?? "" });
  const kinds = daemon.resources().map(({ source }) => source.split("/").at(-1));
  expect(kinds).toEqual(["all.yaml:1", "access_policy-curl.yaml:1"]);
  await daemon.remove("AccessPolicy", "curl");
  expect(daemon.resources().map(({ kind }) => kind)).toEqual(["WorkloadIdentity"]);
  expect(await codeOf(daemon.remove("AccessPolicy", "curl"))).toBe("not_found");
});

test("apply() fails and the earlier rules stay when the module refuses the table", async () => {
  house.writeRules("curl.yaml", CURL_RULES);
  const daemon = await house.start();
  house.kernel.refusals.set("tableCommit", 12);
  expect(await codeOf(daemon.apply({ name: "mine.yaml", text: TEMPLATE_RULES }))).toBe("device_refused");
  expect(daemon.resources().length).toBe(2);
  expect(daemon.status().rules.error).toContain("ENOMEM");
  expect(readdirSync(house.config.rulesDir)).toEqual(["curl.yaml"]);
});

test("reconcile() takes an identity away and cuts its flows when no rule gives it any more", async () => {
  house.writeRules("curl.yaml", CURL_RULES);
  const daemon = await house.start();
  const process = house.kernel.exec();
  await settle();
  const serial = daemon.processes({ all: false })[0]?.svid?.serial ?? "";
  await daemon.remove("WorkloadIdentity", "curl");
  await settle();
  expect(process.state).toBe("unmanaged");
  expect(house.revoked()).toEqual([serial]);
  expect(house.kernel.ofType("cut").map(({ by, value }) => `${by} ${value}`)).toContain(`2 ${process.facts.instance}`);
});

test("reconcile() gives another identity when the rules say so", async () => {
  house.writeRules("curl.yaml", CURL_RULES);
  const daemon = await house.start();
  const process = house.kernel.exec();
  await settle();
  await daemon.apply({
    name: "x.yaml",
    text: (CURL_RULES.split("---")[0] ?? "").replace("workloadID: curl", "workloadID: other"),
  });
  await settle();
  expect(process.spiffeId).toBe("spiffe://edge.test/other");
  expect(process.state).toBe("ready");
  expect(house.revoked().length).toBe(1);
});

test("NameKeeper compiles a service's new addresses when its records have expired", async () => {
  house.writeRules("curl.yaml", CURL_RULES.replace("address: 10.0.0.0/8", "service: web"));
  house.writeRules(
    "web.yaml",
    "apiVersion: riprap.io/v1\nkind: Service\nmetadata: { name: web }\nspec:\n  addresses:\n    - address: web.edge.test\n      ports: [80]\n",
  );
  let address = "10.1.1.1";
  const daemon = await house.start({ resolve: async () => [{ address, ttlMs: 30_000 }] });
  expect((await daemon.explain({ from: "spiffe://edge.test/curl", to: "10.1.1.1:80" })).verdict).toBe("allow");
  expect((await daemon.explain({ from: "spiffe://edge.test/curl", to: "10.2.2.2:80" })).verdict).toBe("deny");
  address = "10.2.2.2";
  const before = house.kernel.tableGeneration;
  await house.clock.advance(31_000);
  await settle();
  expect(house.kernel.tableGeneration).toBeGreaterThan(before);
  expect((await daemon.explain({ from: "spiffe://edge.test/curl", to: "10.2.2.2:80" })).verdict).toBe("allow");
  // The old one lingers for those who remember it, then goes.
  expect((await daemon.explain({ from: "spiffe://edge.test/curl", to: "10.1.1.1:80" })).verdict).toBe("allow");
  await house.clock.advance(91_000);
  await settle();
  expect((await daemon.explain({ from: "spiffe://edge.test/curl", to: "10.1.1.1:80" })).verdict).toBe("deny");
});

test("the table says what explain() says when a verdict is looked up in it", async () => {
  house.writeRules("curl.yaml", CURL_RULES);
  await house.start();
  const process = house.kernel.exec();
  await settle();
  const remote = new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 1, 1, 1]);
  const connection = { subject: process.subject, inbound: false, remote, port: 80 };
  expect(lookup(house.kernel.table ?? new Uint8Array(), connection).action).toBe(ACTION.mutual);
  expect(lookup(house.kernel.table ?? new Uint8Array(), { ...connection, port: 81 }).reason).toBe(REASON.noRule);
});

test("startDaemon() keeps no rule's unfinished file when a writer has just begun", async () => {
  writeFileSync(join(house.config.rulesDir, ".curl.yaml.new"), "kind: [");
  const daemon = await house.start();
  expect(daemon.status().rules.error).toBeUndefined();
});
