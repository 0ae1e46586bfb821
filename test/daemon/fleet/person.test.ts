// What people say to a fleet and what the other daemons make of it: groups of nodes, other trust domains, and an operator who may say some of it alone.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DomainView } from "../../../src/daemon/control/bundle.ts";
import type { FleetEvent } from "../../../src/daemon/fleet/event.ts";
import type { FleetStatusView } from "../../../src/daemon/fleet/port.ts";
import { joinWith, Machine, until } from "../../fleet/machine.ts";
import { NATS_SERVER, type NatsPark, type NatsServer, openPark } from "../../fleet/nats_server.ts";

const TEST_MS = 60_000;

describe.skipIf(NATS_SERVER === null)("people of a fleet (skipped without nats-server)", () => {
  let nats: NatsPark;
  let server: NatsServer;
  let folder: string;
  const machines: Machine[] = [];
  const [first, second, third] = [0, 1, 2].map((index) => () => machines[index] as Machine) as [
    () => Machine,
    () => Machine,
    () => Machine,
  ];

  beforeAll(async () => {
    nats = openPark();
    server = await nats.single();
    folder = mkdtempSync(join(tmpdir(), "riprap-people-"));
    for (const name of ["gate-1", "gate-2", "gate-3"]) {
      const machine = new Machine(join(folder, name), { natsServers: server.url, nodeAddresses: "10.0.0.1" });
      machines.push(machine);
      const token = name === "gate-1" ? "" : (await first().cli(["token", "create"])).out;
      if (token === "") await machine.cli(["init", "town.example", "--node", name]);
      else expect(await joinWith(machine, name, token)).toMatchObject({ status: 0 });
      await machine.start();
      await until(machine, ({ state }) => state === "connected");
    }
  }, TEST_MS);

  afterAll(async () => {
    for (const machine of machines) await machine.stop();
    await nats?.leave();
    rmSync(folder, { recursive: true, force: true });
  }, TEST_MS);

  function file(kind: string, name: string, spec: string): string {
    const path = join(folder, `${kind}-${name}.yaml`);
    writeFileSync(path, `apiVersion: riprap.io/v1\nkind: ${kind}\nmetadata: { name: ${name} }\nspec: ${spec}\n`);
    return path;
  }
  const identity = (name: string, path = name) =>
    file("WorkloadIdentity", name, `{ workloadID: ${path}, selectors: [{ "process:name": ${name} }] }`);
  const say = async (on: Machine, ...argv: string[]) =>
    expect(await on.cli(argv)).toMatchObject({ status: 0, err: "" });
  const namesOn = async (on: Machine, kind: string) =>
    (await on.json<{ name: string }[]>("get", kind)).map(({ name }) => name).sort();
  const current = ({ nodes }: FleetStatusView) => nodes.every(({ isCurrent }) => isCurrent);
  /** Until every node has applied as many resources as this. */
  const allHave = (number: number) => until(first(), (view) => view.generation.number === number && current(view));

  test(
    "a NodeGroup takes nodes into a group, on whose nodes alone its rules are in force, until it goes",
    async () => {
      await say(first(), "apply", "--fleet", "-f", file("NodeGroup", "edge", "{ nodes: [gate-2] }"));
      await say(first(), "apply", "--fleet", "--group", "edge", "-f", identity("grouped"));
      await allHave(2);
      expect(await namesOn(third(), "NodeGroup")).toEqual(["edge"]);
      const rules = () => Promise.all(machines.map((machine) => namesOn(machine, "WorkloadIdentity")));
      expect(await rules()).toEqual([[], ["grouped"], []]);
      await say(first(), "apply", "--fleet", "-f", file("NodeGroup", "edge", '{ nodes: ["gate-*"] }'));
      await allHave(3);
      expect(await rules()).toEqual([["grouped"], ["grouped"], ["grouped"]]);
      await say(first(), "delete", "NodeGroup", "edge", "--fleet");
      await allHave(4);
      expect(await rules()).toEqual([[], [], []]);
    },
    TEST_MS,
  );

  test(
    "a TrustDomain is known on every node, with what its endpoint is, until it goes",
    async () => {
      const endpoint = `endpoint: { url: "https://127.0.0.1:1/bundle", profile: https_web }`;
      await say(
        first(),
        ...["apply", "--fleet", "-f", file("TrustDomain", "partner", `{ trustDomain: partner.example, ${endpoint} }`)],
      );
      await allHave(5);
      const partner = async (on: Machine) =>
        (await on.json<DomainView[]>("bundle", "list")).find(({ trustDomain }) => trustDomain === "partner.example");
      for (const machine of machines)
        expect((await partner(machine))?.endpoint).toMatchObject({ url: "https://127.0.0.1:1/bundle" });
      await say(first(), "delete", "TrustDomain", "partner", "--fleet");
      await allHave(6);
      for (const machine of machines) expect(await partner(machine)).toBeUndefined();
    },
    TEST_MS,
  );

  const events = async (on: Machine, name: string) =>
    (await on.json<FleetEvent[]>("fleet", "log")).filter(({ event }) => event === name);

  test(
    "an operator with some rights sets rules and revokes within them, and is told what is outside",
    async () => {
      const [ask, answer] = [join(folder, "ask"), join(folder, "answer")];
      const rights = ["--kinds", "WorkloadIdentity", "--ids", "spiffe://town.example/team/", "--revoke", "id"];
      await say(second(), "root", "request", "--operator", "ops", ...rights, "--out", ask);
      expect(await first().cli(["root", "sign", ask, "--out", answer])).toMatchObject({ status: 0 });
      await say(second(), "root", "install", answer);
      await say(second(), "apply", "--fleet", "-f", identity("ops.agent", "team/agent"));
      await allHave(7);
      expect(await namesOn(third(), "WorkloadIdentity")).toEqual(["ops.agent"]);
      const refused = async (argv: readonly string[], why: string) =>
        expect(await second().cli(argv)).toMatchObject({ status: 1, err: expect.stringContaining(why) });
      await refused(["apply", "--fleet", "-f", identity("agent", "team/agent")], "name it ops.agent");
      await refused(
        ["apply", "--fleet", "-f", identity("ops.boss", "boss")],
        "may not speak of spiffe://town.example/boss",
      );
      const policy = file("AccessPolicy", "all", "{ workloads: [team/agent], egress: [] }");
      await refused(["apply", "--fleet", "-f", policy], "may say nothing of kind AccessPolicy");
      await refused(["delete", "WorkloadIdentity", "nobody", "--fleet"], "the fleet has no such resource");
      await refused(["revoke", "node:gate-3"], "may not revoke node:gate-3");
      const more = ["root", "request", "--operator", "ops", "--revoke", "id,operator"];
      expect(await second().cli(more)).toMatchObject({
        status: 2,
        err: expect.stringContaining("it is none of serial"),
      });
      const said = await second().cli(["revoke", "spiffe://town.example/team/thief"]);
      expect(said).toMatchObject({ status: 0, out: expect.stringContaining("said to the fleet of 3") });
      await until(third(), ({ revocations }) => revocations.some(({ target }) => target.endsWith("/team/thief")));
      const outside = await second().cli(["revoke", "spiffe://town.example/boss"]);
      expect(outside).toMatchObject({ status: 0, out: expect.stringContaining("NOT said to the fleet") });
      expect((await third().cli(["revoke", "node:gate-1"])).err).toContain("this machine has no operator's key");
      expect(await namesOn(third(), "WorkloadIdentity")).toEqual(["ops.agent"]);
    },
    TEST_MS,
  );

  test(
    "what an operator says after his end is refused by the other nodes, shown to a person once, and falls on his own node",
    async () => {
      await server.kill();
      for (const machine of machines) await until(machine, ({ state }) => state === "offline");
      await say(first(), "revoke", "operator:ops", "--reason", "the laptop is gone");
      // His own node has not heard of it.
      await say(second(), "apply", "--fleet", "-f", identity("ops.late", "team/late"));
      expect(await namesOn(second(), "WorkloadIdentity")).toEqual(["ops.agent", "ops.late"]);
      await server.start();
      for (const machine of machines) await until(machine, ({ state }) => state === "connected");
      for (let i = 0; i < 2; i++) await second().cli(["fleet", "converge"]);
      await allHave(7);
      const rules = await Promise.all(machines.map((machine) => namesOn(machine, "WorkloadIdentity")));
      // What he said before it stands.
      expect(rules).toEqual([["ops.agent"], ["ops.agent"], ["ops.agent"]]);
      // None when his own node heard of his end before it could pass the word on.
      const refused = await events(first(), "refused");
      expect(refused.length).toBeLessThan(2);
      for (const each of refused)
        expect(each).toMatchObject({
          subject: "resource/WorkloadIdentity/ops.late",
          detail: expect.stringContaining("the operator ops is revoked"),
        });
      // Not even that, once nothing of him is to be kept.
      expect((await first().cli(["revoke", "node:gate-9", "--keep", "none"])).err).toContain("operator:NAME");
      await say(first(), "revoke", "operator:ops", "--keep", "none");
      await allHave(6);
      expect(await namesOn(third(), "WorkloadIdentity")).toEqual([]);
      const fallen = await events(second(), "no longer stands");
      expect(fallen.map(({ subject }) => subject)).toContain("resource/WorkloadIdentity/ops.late");
    },
    TEST_MS,
  );
});
