// Joins over brokers that ask for more than an address: an nkey, credentials of an account, a certificate of a private CA.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nkeys } from "nats";
import { fleetSubjects } from "../../src/federation/subject.ts";
import { claim, credentials, joinWith, Machine, until } from "./machine.ts";
import { makeServerTls, NATS_SERVER, type NatsPark, openPark, type ServerTls } from "./nats_server.ts";

const TEST_MS = 60_000;

let nats: NatsPark;
let tls: ServerTls & { readonly caText: string };
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

  test(
    "createToken() has the broker's CA, so that a token alone joins over TLS, and the node keeps that CA",
    async () => {
      const server = await nats.single({ tls });
      const first = await found({ natsServers: server.url, natsCa: tls.ca });
      const { out: token, err } = await first.cli(["token", "create"]);
      expect(err).not.toContain("natsCa");
      const second = machine("gate-2", {});
      expect(await joinWith(second, "gate-2", token)).toMatchObject({ status: 0, err: "" });
      await second.start();
      await until(second, ({ state, nodes }) => state === "connected" && nodes.length === 2);
    },
    TEST_MS,
  );

  test(
    "token create says that the broker's CA is too large for the token, and which setting to make on the other machine",
    async () => {
      const large = join(folder, "large.pem");
      writeFileSync(large, tls.caText.repeat(9));
      const server = await nats.single({ tls });
      const first = await found({ natsServers: server.url, natsCa: large });
      const { out: token, err, status } = await first.cli(["token", "create"]);
      expect(status).toBe(0);
      expect(err).toContain("natsCa");
      const second = machine("gate-2", { natsServers: server.url, natsCa: tls.ca });
      expect(await joinWith(second, "gate-2", token)).toMatchObject({ status: 0, err: "" });
    },
    TEST_MS,
  );

  test(
    "token create --broker-credentials lets its bearer join with a credentials file or a seed that it has from the token",
    async () => {
      const [operator, account, user] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createUser()];
      const unlimited = { subs: -1, data: -1, payload: -1 };
      const limits = { ...unlimited, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };
      const own = join(folder, "own.creds");
      const guest = join(folder, "guest.creds");
      const guestUser = nkeys.createUser();
      const { joinInbox, allJoins } = fleetSubjects("town.example");
      const guestRights = { pub: { allow: [allJoins] }, sub: { allow: [`${joinInbox}.>`] } };
      const write = (file: string, of: typeof user, rights: object) =>
        writeFileSync(
          file,
          credentials(
            claim(account, of, { type: "user", ...unlimited, ...rights }),
            new TextDecoder().decode(of.getSeed()),
          ),
          { mode: 0o600 },
        );
      write(own, user, {});
      write(guest, guestUser, guestRights);
      const jwts = await nats.single({
        tls,
        config: [
          `operator: ${claim(operator, operator, { type: "operator" })}`,
          "resolver: MEMORY",
          `resolver_preload: { ${account.getPublicKey()}: ${claim(operator, account, { type: "account", limits })} }`,
        ].join("\n"),
      });
      const first = await found({ natsServers: jwts.url, natsCa: tls.ca, natsCredentials: own });
      const { out: bare } = await first.cli(["token", "create"]);
      expect(await joinWith(machine("gate-2", {}), "gate-2", bare)).toMatchObject({
        status: 1,
        err: expect.stringContaining("does not take this node's nkey or credentials"),
      });
      const { out: token } = await first.cli(["token", "create", "--broker-credentials", guest]);
      expect(await joinWith(machine("gate-3", {}), "gate-3", token)).toMatchObject({ status: 0, err: "" });
      const seed = new TextDecoder().decode(guestUser.getSeed());
      const kept = JSON.stringify([await first.json("token", "list"), await first.json("fleet", "log")]);
      expect(kept).not.toContain(seed);
      expect(kept).toContain("broker credentials");

      const [one, two] = [seedFile("one"), seedFile("two")];
      const seeds = await nats.single({ config: authorization(one, two) });
      await first.stop();
      rmSync(first.folder, { recursive: true });
      const next = await found({ natsServers: seeds.url, natsCredentials: one.file });
      const { out: another } = await next.cli(["token", "create", "--broker-credentials", two.file]);
      expect(await joinWith(machine("gate-4", {}), "gate-4", another)).toMatchObject({ status: 0, err: "" });
    },
    TEST_MS,
  );

  test(
    "token create --broker-credentials refuses a file that others read, one that is none and one that is too large",
    async () => {
      const server = await nats.single();
      const first = await found({ natsServers: server.url });
      const { file } = seedFile("seed");
      const asked = (path: string) => first.cli(["token", "create", "--broker-credentials", path]);
      expect(await asked(file)).toMatchObject({ status: 0 });
      chmodSync(file, 0o644);
      expect(await asked(file)).toMatchObject({ status: 1, err: expect.stringContaining("chmod 600") });
      chmodSync(file, 0o600);
      writeFileSync(file, "a password");
      const none = await asked(file);
      expect(none.err).toContain("neither a NATS credentials file");
      expect(none.err).not.toContain("a password");
      expect(none.status).toBe(1);
      writeFileSync(file, `SU${"A".repeat(56)}\n${"x".repeat(2100)}`);
      expect(await asked(file)).toMatchObject({ status: 1, err: expect.stringContaining("larger than 2048 bytes") });
    },
    TEST_MS,
  );
});
