// Commands for which somebody is missing, the broker or the issuing node: what a person reads while they wait, and how they end.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type FakeTerminal, fakeTerminal } from "../../cli/fake_terminal.ts";
import { joinWith, Machine, until } from "../../fleet/machine.ts";
import { freePort, NATS_SERVER, type NatsPark, type NatsServer, openPark } from "../../fleet/nats_server.ts";
import { eventually } from "../house.ts";

const TEST_MS = 60_000;

describe.skipIf(NATS_SERVER === null)("absence (skipped without nats-server)", () => {
  let nats: NatsPark;
  let server: NatsServer;
  let folder: string;
  let machines: Machine[] = [];

  beforeAll(async () => {
    nats = openPark();
    server = await nats.single();
  }, TEST_MS);
  afterAll(async () => {
    await nats?.leave();
  }, TEST_MS);
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "riprap-absence-"));
  });
  afterEach(async () => {
    for (const machine of machines) await machine.stop();
    machines = [];
    rmSync(folder, { recursive: true, force: true });
  }, TEST_MS);

  function machine(name: string, natsServers = server.url): Machine {
    const made = new Machine(join(folder, name), { natsServers, nodeAddresses: "10.0.0.1" });
    machines.push(made);
    return made;
  }

  async function found(): Promise<Machine> {
    const first = machine("gate-1");
    expect((await first.cli(["init", "town.example", "--node", "gate-1"])).status).toBe(0);
    await first.start();
    await until(first, ({ state }) => state === "connected");
    return first;
  }

  const told = (terminal: FakeTerminal, what: string) => eventually(() => terminal.err.join().includes(what));

  test(
    "join says within moments that no broker is there, or that it asks for credentials, and ends when a person has read enough",
    async () => {
      const first = await found();
      const { out: token } = await first.cli(["token", "create"]);
      const closed = await nats.single({ config: 'authorization { users: [{ user: "a", password: "b" }] }' });
      for (const [url, why] of [
        [`nats://127.0.0.1:${freePort()}`, "no server listens there"],
        [closed.url, "the server does not take this node's nkey or credentials"],
      ] as const) {
        const terminal = fakeTerminal(token);
        const joining = joinWith(machine(`late-${machines.length}`, url), "late", token, terminal);
        await told(terminal, `no connection to ${url} yet: ${why}`);
        terminal.interrupt();
        expect(await joining).toMatchObject({
          status: 1,
          err: expect.stringContaining(`Cannot reach the fleet at ${url}: interrupted; check the address`),
        });
      }
      await closed.kill();
    },
    TEST_MS,
  );

  test(
    "join names the issuing node that is gone and what to do, the token is worth nothing elsewhere, and good when it is back",
    async () => {
      const first = await found();
      const { out: token } = await first.cli(["token", "create"]);
      await first.stop();
      const late = machine("late");
      const terminal = fakeTerminal(token);
      const gone = await joinWith(late, "late", token, terminal);
      expect(gone.status).toBe(1);
      expect(gone.err).toContain("waiting for the issuing node that made the token");
      expect(gone.err).toContain("no other may answer: a token is good once");
      expect(gone.err).toContain("make a new token on another issuing node with riprap token create");
      await first.start();
      await until(first, ({ state }) => state === "connected");
      expect(await joinWith(late, "late", token)).toMatchObject({ status: 0 });
    },
    TEST_MS,
  );

  test(
    "join that was interrupted while it waited for a person's word is the same machine when it comes again",
    async () => {
      const first = await found();
      const { out: token } = await first.cli(["token", "create", "--approve"]);
      const late = machine("gate-2");
      const terminal = fakeTerminal(token);
      const joining = joinWith(late, "gate-2", token, terminal);
      await told(terminal, "waiting for riprap node approve gate-2");
      terminal.interrupt();
      expect((await joining).status).toBe(1);
      expect((await first.cli(["node", "approve", "gate-2"])).status).toBe(0);
      expect(await joinWith(late, "gate-2", token)).toMatchObject({ status: 0 });
    },
    TEST_MS,
  );

  test(
    "join goes on waiting for a person's word while the issuing node starts again",
    async () => {
      const first = await found();
      const { out: token } = await first.cli(["token", "create", "--approve"]);
      const terminal = fakeTerminal(token);
      const joining = joinWith(machine("gate-2"), "gate-2", token, terminal);
      await told(terminal, "waiting for riprap node approve gate-2");
      await first.stop();
      await told(terminal, "waiting for the issuing node that made the token");
      await first.start();
      await until(first, ({ state }) => state === "connected");
      expect((await first.cli(["node", "approve", "gate-2"])).status).toBe(0);
      expect(await joining).toMatchObject({ status: 0 });
    },
    TEST_MS,
  );

  test(
    "fleet renew says which issuing node did not sign, and why",
    async () => {
      const first = await found();
      const { out: token } = await first.cli(["token", "create"]);
      const second = machine("gate-2");
      expect(await joinWith(second, "gate-2", token)).toMatchObject({ status: 0 });
      await second.start();
      await until(second, ({ state }) => state === "connected");
      await first.stop();
      expect(await second.cli(["fleet", "renew"])).toMatchObject({
        status: 1,
        err: expect.stringContaining("no issuing node signed one (gate-1: Cannot ask over NATS: no node that answers"),
      });
    },
    TEST_MS,
  );
});
