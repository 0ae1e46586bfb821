// Joins over brokers that ask for more than an address: an nkey, credentials of an account, a certificate of a private CA.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nkeys } from "nats";
import { joinWith, Machine, until } from "./machine.ts";
import { makeServerTls, NATS_SERVER, type NatsPark, openPark, type ServerTls } from "./nats_server.ts";

const TEST_MS = 60_000;

let nats: NatsPark;
let tls: ServerTls;
let folder: string;
let machines: Machine[] = [];

describe.skipIf(NATS_SERVER === null)("join (skipped without nats-server)", () => {
  beforeAll(async () => {
    nats = openPark();
    tls = await makeServerTls(join(nats.folder, "tls"));
  });
  afterAll(() => nats.leave());
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "riprap-join-"));
  });
  afterEach(async () => {
    for (const machine of machines) await machine.stop();
    machines = [];
    rmSync(folder, { recursive: true, force: true });
  }, TEST_MS);

  function machine(name: string, settings: Readonly<Record<string, string>>): Machine {
    const made = new Machine(join(folder, name), settings);
    machines.push(made);
    return made;
  }

  async function found(settings: Readonly<Record<string, string>>): Promise<Machine> {
    const first = machine("gate-1", settings);
    expect((await first.cli(["init", "town.example", "--node", "gate-1"])).status).toBe(0);
    await first.start();
    await until(first, ({ state }) => state === "connected");
    return first;
  }

  /** A user whom the server knows by its nkey, and the private file with the seed. */
  function seedFile(name: string): { readonly file: string; readonly publicKey: string } {
    const user = nkeys.createUser();
    const file = join(folder, name);
    writeFileSync(file, `${new TextDecoder().decode(user.getSeed())}\n`, { mode: 0o600 });
    return { file, publicKey: user.getPublicKey() };
  }

  const authorization = (...users: readonly { readonly publicKey: string }[]) =>
    `authorization { users: [ ${users.map(({ publicKey }) => `{ nkey: ${publicKey} }`).join(", ")} ] }`;

  test(
    "joinFleet() proves itself by the joining node's own natsCredentials and natsCa when the broker asks for both",
    async () => {
      const [one, two] = [seedFile("one"), seedFile("two")];
      const server = await nats.single({ tls, config: authorization(one, two) });
      const natsServers = server.url;
      const first = await found({ natsServers, natsCredentials: one.file, natsCa: tls.ca });
      const { out: token } = await first.cli(["token", "create"]);
      const second = machine("gate-2", { natsServers, natsCredentials: two.file, natsCa: tls.ca });
      expect(await joinWith(second, "gate-2", token)).toMatchObject({ status: 0, err: "" });
      await second.start();
      await until(second, ({ state, nodes }) => state === "connected" && nodes.length === 2);
    },
    TEST_MS,
  );
});
