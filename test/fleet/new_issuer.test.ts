// A node that becomes an issuing node while the broker holds it to what it was: told what is refused and what to do, and at work when the broker knows, without a new connection.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { FleetStatusView } from "../../src/daemon/fleet/port.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import { joinWith, Machine, until } from "./machine.ts";
import { NATS_SERVER, type NatsPark, openPark } from "./nats_server.ts";

const TEST_MS = 90_000;

describe.skipIf(NATS_SERVER === null)("a new issuing node (skipped without nats-server)", () => {
  let nats: NatsPark;
  let machines: Machine[] = [];

  beforeEach(() => {
    nats = openPark();
  });
  afterEach(async () => {
    for (const machine of machines) await machine.stop();
    machines = [];
    await nats.leave();
  }, TEST_MS);

  function machine(name: string, natsServers: string): Machine {
    const made = new Machine(join(nats.folder, name), { natsServers, nodeAddresses: "10.0.0.1" });
    machines.push(made);
    return made;
  }

  test(
    "listens for machines that join as soon as the broker has loaded what riprap fleet nats-config prints",
    async () => {
      const server = await nats.single();
      const [first, second] = [machine("gate-1", server.url), machine("gate-2", server.url)];
      expect((await first.cli(["init", "town.example", "--node", "gate-1"])).status).toBe(0);
      await first.start();
      await until(first, ({ state }) => state === "connected");
      const { out: token } = await first.cli(["token", "create"]);
      expect(await joinWith(second, "gate-2", token)).toMatchObject({ status: 0 });
      const printed = async () => (await first.cli(["fleet", "nats-config"])).out;
      await server.kill();
      await server.reload(await printed());
      await server.start();
      await second.start();
      await until(second, ({ state, warnings }) => state === "connected" && warnings.length === 0);

      const [ask, answer] = [join(nats.folder, "ask"), join(nats.folder, "answer")];
      expect(await second.cli(["root", "request", "--issuing", "--out", ask])).toMatchObject({ status: 0 });
      expect(await first.cli(["root", "sign", ask, "--out", answer])).toMatchObject({ status: 0 });
      expect(await second.cli(["root", "install", answer])).toMatchObject({ status: 0 });
      // At once: until the roster names what it signs with now, nobody takes its identities.
      const authoritiesOf = (view: FleetStatusView) => view.nodes.find(({ name }) => name === "gate-2")?.authorities;
      await until(first, (view) => authoritiesOf(view)?.length === 2);
      const { warnings } = await until(second, (view) => view.warnings.join().includes("broker"));
      const { prefix } = fleetSubjects("town.example");
      expect(warnings.join()).toContain(`The broker does not let this node listen to ${prefix}.join.`);
      expect(warnings.join()).toContain("riprap fleet nats-config");
      expect((await second.cli(["fleet", "status"])).out).toContain(
        "warning: The broker does not let this node listen",
      );

      await until(first, ({ nodes }) => nodes.some(({ name, isIssuer }) => name === "gate-2" && isIssuer));
      await server.reload(await printed());
      await until(second, (view) => view.state === "connected" && view.warnings.length === 0);
      const { out: another } = await second.cli(["token", "create"]);
      expect(await joinWith(machine("gate-3", server.url), "gate-3", another)).toMatchObject({ status: 0 });
      const events = await second.json<{ event: string; subject: string }[]>("fleet", "log");
      expect(events.filter(({ event }) => event.startsWith("broker")).map(({ event }) => event)).toEqual([
        "broker refuses",
        "broker takes",
      ]);
    },
    TEST_MS,
  );
});
