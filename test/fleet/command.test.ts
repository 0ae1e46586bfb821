// The commands of enrolment and of the fleet's rules, as people type them, over a real server: approval, denial, tokens, groups, nodes by file, credentials.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nkeys } from "nats";
import type { AuthorityList } from "../../src/ca.ts";
import type { FleetStatusView, TokenView } from "../../src/daemon/fleet/port.ts";
import { VERSION } from "../../src/version.ts";
import { fakeTerminal } from "../cli/fake_terminal.ts";
import { claim, credentials, joinWith, Machine, until } from "./machine.ts";
import { NATS_SERVER, type NatsPark, type NatsServer, openPark } from "./nats_server.ts";

const TEST_MS = 60_000;
const PATIENCE_MS = 20_000;
const HAS_SERVER = NATS_SERVER !== null;

let nats: NatsPark;
let server: NatsServer;
let folder: string;
let machines: Machine[] = [];

beforeAll(async () => {
  if (!HAS_SERVER) return;
  nats = openPark();
  server = await nats.single();
});
afterAll(async () => {
  await nats?.leave();
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "riprap-commands-"));
});
afterEach(async () => {
  for (const machine of machines) await machine.stop();
  machines = [];
  rmSync(folder, { recursive: true, force: true });
}, TEST_MS);

function machine(
  name: string,
  settings: Readonly<Record<string, string>> = { natsServers: server.url, nodeAddresses: "10.0.0.1" },
): Machine {
  const made = new Machine(join(folder, name), settings);
  machines.push(made);
  return made;
}

async function found(name: string, settings?: Readonly<Record<string, string>>): Promise<Machine> {
  const first = machine(name, settings);
  expect((await first.cli(["init", "town.example", "--node", name])).status).toBe(0);
  await first.start();
  await until(first, ({ state }) => state === "connected");
  return first;
}

async function member(first: Machine, name: string, ...options: string[]): Promise<Machine> {
  const { out } = await first.cli(["token", "create", ...options]);
  const other = machine(name);
  expect(await joinWith(other, name, out)).toMatchObject({ status: 0 });
  await other.start();
  await until(other, ({ state }) => state === "connected");
  return other;
}

/** Who waits on the issuing node, when somebody does. */
async function waiting(first: Machine): Promise<{ nodeName: string; fingerprint: string }> {
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end; await Bun.sleep(30)) {
    const [one] = await first.json<{ nodeName: string; fingerprint: string }[]>("node", "pending");
    if (one !== undefined) return one;
  }
  throw new Error("nobody waits");
}

const INSTANT = /^[-\d]+T[\d:.]+Z$/;

/** The cells of a printed table; what a column was too narrow for goes on below it. */
function cellsOf(table: string): string[][] {
  const lines = table.split("\n");
  const starts = [...(lines[0] ?? "").matchAll(/\S+( \S+)*/g)].map(({ index }) => index);
  const rows: string[][] = [];
  for (const line of lines) {
    const cells = starts.map((start, i) => line.slice(start, starts[i + 1]).trim());
    if (cells[0] !== "") rows.push(cells);
    else for (const [i, cell] of cells.entries()) (rows.at(-1) ?? [])[i] += cell;
  }
  return rows;
}

describe.skipIf(!HAS_SERVER)("commands (skipped without nats-server)", () => {
  test(
    "join waits for node approve, and both machines show the same fingerprint",
    async () => {
      const first = await found("gate-1");
      const { out: token } = await first.cli(["token", "create", "--approve", "--group", "gates"]);
      const terminal = fakeTerminal(token);
      const second = machine("gate-2");
      const joining = joinWith(second, "gate-2", token, terminal);
      const one = await waiting(first);
      expect(one.nodeName).toBe("gate-2");
      for (let i = 0; i < 400 && terminal.err.length === 0; i++) await Bun.sleep(20);
      expect(terminal.err.join()).toContain(one.fingerprint);
      expect(one.fingerprint).toMatch(/^([0-9a-f]{4}-){7}[0-9a-f]{4}$/);
      expect(await first.json<object>("node", "approve", "gate-2")).toMatchObject({ decision: "approved" });
      expect(await joining).toMatchObject({ status: 0 });
      await second.start();
      const view = await until(first, ({ nodes }) =>
        nodes.some(({ name, applied }) => name === "gate-2" && applied !== undefined),
      );
      expect(view.nodes.find(({ name }) => name === "gate-2")).toMatchObject({ group: "gates", state: "active" });
      expect((await first.cli(["node", "pending"])).out).toBe("No node waits.");
      expect(await first.cli(["node", "approve", "gate-2"])).toMatchObject({
        status: 1,
        err: expect.stringContaining("no node of this name waits"),
      });
    },
    TEST_MS,
  );

  test(
    "node deny refuses who waits, and token revoke makes a token worthless",
    async () => {
      const first = await found("gate-1");
      const { out: denied } = await first.cli(["token", "create", "--approve"]);
      const joining = joinWith(machine("gate-2"), "gate-2", denied);
      await waiting(first);
      expect(await first.cli(["node", "deny", "gate-2"])).toMatchObject({ status: 0 });
      expect(await joining).toMatchObject({ status: 1, err: expect.stringContaining("a person has denied it") });
      const { id, token } = await first.json<TokenView & { token: string }>("token", "create");
      expect((await first.cli(["token", "revoke", id])).status).toBe(0);
      expect(await joinWith(machine("gate-3"), "gate-3", token)).toMatchObject({
        status: 1,
        err: expect.stringContaining("the token is revoked"),
      });
      const events = await first.json<{ event: string; detail: string }[]>("fleet", "log");
      const refused = events.filter(({ event }) => event === "join refused").map(({ detail }) => detail.split(":")[0]);
      expect(new Set(refused)).toEqual(new Set(["join_denied", "token_revoked"]));
      const { out } = await first.cli(["token", "list"]);
      expect(out).toContain("denied");
    },
    TEST_MS,
  );

  test(
    "apply --fleet brings a rule to all, to a group or to one node, and delete takes it away",
    async () => {
      const first = await found("gate-1");
      const second = await member(first, "gate-2", "--group", "gates");
      const third = await member(first, "gate-3");
      const rule = (name: string) => {
        const file = join(folder, `${name}.yaml`);
        writeFileSync(
          file,
          `apiVersion: riprap.io/v1\nkind: WorkloadIdentity\nmetadata: { name: ${name} }\nspec:\n  workloadID: ${name}\n  selectors: [{ "process:name": "${name}" }]\n`,
        );
        return file;
      };
      const say = async (...argv: string[]) => expect(await first.cli(argv)).toMatchObject({ status: 0, err: "" });
      await say("apply", "--fleet", "-f", rule("everywhere"));
      await say("apply", "--fleet", "--group", "gates", "-f", rule("grouped"));
      await say("apply", "--fleet", "--node", "gate-3", "-f", rule("alone"));
      const namesOn = async (on: Machine) =>
        (await on.json<{ name: string }[]>("get", "WorkloadIdentity")).map(({ name }) => name).sort();
      await until(
        first,
        ({ generation, nodes }) => generation.number === 3 && nodes.every(({ isCurrent }) => isCurrent),
      );
      expect(await Promise.all([first, second, third].map(namesOn))).toEqual([
        ["everywhere"],
        ["everywhere", "grouped"],
        ["alone", "everywhere"],
      ]);
      await say("delete", "WorkloadIdentity", "grouped", "--fleet");
      await until(
        first,
        ({ generation, nodes }) => generation.number === 4 && nodes.every(({ isCurrent }) => isCurrent),
      );
      expect(await namesOn(second)).toEqual(["everywhere"]);
      const both = await first.cli(["apply", "--fleet", "--group", "a", "--node", "b", "-f", rule("no")]);
      expect(both).toMatchObject({ status: 2, err: expect.stringContaining("--group and --node together") });
      // Only the machine of the first node has the operator's key.
      expect(await second.cli(["apply", "--fleet", "-f", rule("no")])).toMatchObject({
        status: 1,
        err: expect.stringContaining("operator's key"),
      });
    },
    TEST_MS,
  );

  test(
    "fleet status, nodes and converge say of each node what a person asks for",
    async () => {
      const first = await found("gate-1");
      const second = await member(first, "gate-2", "--group", "gates");
      await until(first, ({ nodes }) => nodes.length === 2 && nodes.every(({ isCurrent }) => isCurrent));
      const ran = async (...argv: string[]) => {
        const { status, out } = await first.cli(argv);
        return { status, lines: out.split("\n").map((line) => line.trim().replaceAll(/\s{2,}/g, " | ")) };
      };
      const same = expect.stringMatching(/^gate-2: the same now, \d+ taken, \d+ given$/);
      expect(await ran("fleet", "converge")).toEqual({ status: 0, lines: [same] });
      const { out: table } = await first.cli(["fleet", "nodes"]);
      const time = expect.stringMatching(INSTANT);
      expect(cellsOf(table)).toEqual([
        ["NODE", "STATE", "ROLE", "GROUP", "LAST SEEN", "VERSION", "ADDRESSES", "MAY ISSUE"],
        ["gate-1", "active", "issuer", "default", time, VERSION, "10.0.0.1", "spiffe://town.example/"],
        ["gate-2", "active", "", "gates", time, VERSION, "10.0.0.1", "spiffe://town.example/"],
      ]);
      const names = await second.json<{ name: string }[]>("fleet", "nodes");
      expect(names.map(({ name }) => name)).toEqual(["gate-1", "gate-2"]);
      await first.json("revoke", "spiffe://town.example/thief", "--reason", "it stole");
      expect((await ran("fleet", "status")).lines).toEqual([
        `node gate-1 of town.example: connected to ${server.url.replace("nats://", "")}`,
        expect.stringMatching(
          /^generation 0 \([0-9a-f]{16}\), \d+ statements, last agreed with another node [-\d]+T\S+Z$/,
        ),
        "NODE | STATE | DESIRED | APPLIED | LAST SEEN",
        expect.stringMatching(/^gate-1 \| active \| 0 \| 0 \| [-\d]+T\S+Z$/),
        expect.stringMatching(/^gate-2 \| active \| 0 \| 0 \| [-\d]+T\S+Z$/),
        expect.stringMatching(/^revoked id:spiffe:\/\/town\.example\/thief: it stole \(statement [0-9a-f]{16}\)$/),
      ]);
      await second.stop();
      const silent = expect.stringMatching(/^gate-2: it did not answer$/);
      expect(await ran("fleet", "converge")).toEqual({ status: 1, lines: [silent] });
      const alone = machine("alone", {});
      await alone.cli(["init", "alone.example", "--node", "alone"]);
      await alone.start();
      const { out } = await alone.cli(["fleet", "status"]);
      expect(out).toStartWith("node alone of alone.example: offline\n  No NATS server is configured (natsServers).\n");
      expect(out).toContain("last agreed with another node never");
      expect(await alone.cli(["fleet", "converge"])).toMatchObject({ status: 0, out: "There is no other node." });
    },
    TEST_MS,
  );

  test(
    "root request, sign and install make a second issuing node with an offline key, and either may be gone",
    async () => {
      const first = await found("gate-1");
      const second = await member(first, "gate-2");
      const third = await member(first, "gate-3");
      const key = join(folder, "root.key");
      expect((await first.cli(["root", "export", key])).status).toBe(0);
      for (const [name, on] of [
        ["gate-1", first],
        ["gate-2", second],
      ] as const) {
        const [ask, answer] = [join(folder, `${name}.ask`), join(folder, `${name}.answer`)];
        expect(await on.cli(["root", "request", "--issuing", "--out", ask])).toMatchObject({ status: 0 });
        // On a machine of its own, which has the key and nothing else.
        const safe = new Machine(join(folder, `safe-${name}`), {});
        expect(await safe.cli(["root", "sign", ask, "--key", key, "--out", answer])).toMatchObject({ status: 0 });
        expect(await on.cli(["root", "install", answer])).toMatchObject({ status: 0 });
      }
      const isIssuer = (name: string) => (view: FleetStatusView) =>
        view.nodes.find((node) => node.name === name)?.isIssuer === true;
      await until(third, isIssuer("gate-2"));
      await first.stop();
      const { out: token } = await second.cli(["token", "create"]);
      const fourth = machine("gate-4");
      expect(await joinWith(fourth, "gate-4", token)).toMatchObject({ status: 0 });
      expect(await third.cli(["fleet", "renew"])).toMatchObject({ status: 0 });
      await fourth.start();
      await until(fourth, ({ state, nodes }) => state === "connected" && nodes.length === 4);
      await first.start();
      await until(first, ({ state, nodes }) => state === "connected" && nodes.length === 4);
      await second.stop();
      expect(await third.cli(["fleet", "renew"])).toMatchObject({ status: 0 });
      const { out: another } = await first.cli(["token", "create"]);
      expect(await joinWith(machine("gate-5"), "gate-5", another)).toMatchObject({ status: 0 });
    },
    TEST_MS,
  );

  test(
    "root request --roots brings another offline root to every node, and retires the first",
    async () => {
      const first = await found("gate-1");
      const second = await member(first, "gate-2");
      const safe = new Machine(join(folder, "safe"), {});
      const keys = { old: join(folder, "old.key"), next: join(folder, "next.key") };
      let documents = 0;
      /** Asked on the first node, signed where the key is, carried back. */
      const carry = async (key: string, ...what: string[]) => {
        documents += 1;
        const [ask, answer] = [join(folder, `${documents}.ask`), join(folder, `${documents}.answer`)];
        expect(await first.cli(["root", "request", ...what, "--out", ask])).toMatchObject({ status: 0 });
        expect(await safe.cli(["root", "sign", ask, "--key", key, "--out", answer])).toMatchObject({ status: 0 });
        return first.cli(["root", "install", answer]);
      };
      expect((await first.cli(["root", "export", keys.old])).status).toBe(0);
      expect(await carry(keys.old, "--issuing")).toMatchObject({ status: 0 });
      // Another root is made where no network is, for the same trust domain.
      const other = new Machine(join(folder, "other"), {});
      expect((await other.cli(["init", "town.example", "--node", "safe"])).status).toBe(0);
      expect((await other.cli(["root", "export", keys.next])).status).toBe(0);
      const unknown = await carry(keys.next, "--issuing");
      expect(unknown).toMatchObject({ status: 1, err: expect.stringContaining("riprap root request --roots") });
      const issued = join(folder, `${documents}.answer`);
      expect(await carry(keys.old, "--roots")).toMatchObject({ status: 0 });
      expect(await first.cli(["root", "install", issued])).toMatchObject({ status: 0 });
      const rootsOn = async (on: Machine) => {
        const { authorities } = await on.json<AuthorityList>("authority", "list", "--all");
        return authorities.filter(({ kind }) => kind === "x509").map(({ id }) => id);
      };
      const [old = "", next = ""] = await rootsOn(first);
      await until(second, ({ roots }) => roots.length === 2);
      expect(await rootsOn(second)).toEqual([old, next]);
      expect(await first.cli(["authority", "activate", next, "--force"])).toMatchObject({ status: 0 });
      // Only the new root can say now that the old one speaks no more; then the others move under it.
      expect(await carry(keys.next, "--roots")).toMatchObject({ status: 0 });
      await until(second, ({ roots }) => roots.find(({ fingerprint }) => fingerprint === old)?.state === "retired");
      for (let i = 0; (await second.json<AuthorityList>("authority", "list")).intermediate.root !== next; i++) {
        if (i > 400) throw new Error("it did not move");
        await Bun.sleep(50);
      }
      expect(await carry(keys.old, "--operator", "late")).toMatchObject({ status: 1 });
      expect(await carry(keys.next, "--operator", "late")).toMatchObject({ status: 0 });
      expect((await first.cli(["root", "request", "--roots"])).err).toContain("the fleet knows those of this node");
    },
    TEST_MS,
  );

  test(
    "enrol puts a node into the roster without a voice, and its revocation is the fleet's",
    async () => {
      const first = await found("gate-1");
      const quiet = machine("cellar", {});
      const [ask, grant] = [join(folder, "ask"), join(folder, "grant")];
      expect((await quiet.cli(["enrol", "request", "town.example", "--node", "cellar", "--out", ask])).status).toBe(0);
      expect((await first.cli(["enrol", "sign", ask, "--out", grant])).status).toBe(0);
      expect((await quiet.cli(["enrol", "install", grant])).status).toBe(0);
      const view = await until(first, ({ nodes }) => nodes.some(({ name }) => name === "cellar"));
      const entry = view.nodes.find(({ name }) => name === "cellar");
      expect(entry).toMatchObject({ admittedBy: "file", state: "active", authorities: [expect.any(String)] });
      expect(entry?.lastSeen).toBeUndefined();
      await quiet.start();
      expect(await quiet.json<FleetStatusView>("fleet", "status")).toMatchObject({ state: "alone" });
      expect((await first.cli(["revoke", "node:cellar", "--reason", "it is gone"])).status).toBe(0);
      await until(first, ({ nodes }) => nodes.find(({ name }) => name === "cellar")?.state === "revoked");
    },
    TEST_MS,
  );
});

describe.skipIf(!HAS_SERVER)("natsCredentials (skipped without nats-server)", () => {
  test(
    "a node proves itself with an nkey seed in a private file, and prints that nkey for the server",
    async () => {
      const user = nkeys.createUser();
      const own = await nats.single({ config: `authorization { users: [ { nkey: ${user.getPublicKey()} } ] }` });
      const file = join(folder, "nkey");
      writeFileSync(file, `${new TextDecoder().decode(user.getSeed())}\n`, { mode: 0o600 });
      const first = await found("gate-1", { natsServers: own.url, natsCredentials: file });
      expect((await first.cli(["fleet", "nats-config"])).out).toContain(user.getPublicKey());
      await first.stop();
      chmodSync(file, 0o644);
      await expect(first.start()).rejects.toThrow(file);
      writeFileSync(file, "no seed");
      chmodSync(file, 0o600);
      await expect(first.start()).rejects.toMatchObject({ code: "fleet_credentials" });
    },
    TEST_MS,
  );

  test(
    "a node proves itself with a credentials file of a server that knows operators and accounts by their JWTs",
    async () => {
      const [operator, account, user] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createUser()];
      const unlimited = { subs: -1, data: -1, payload: -1 };
      const limits = { ...unlimited, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };
      const accountKey = account.getPublicKey();
      const own = await nats.single({
        config: [
          `operator: ${claim(operator, operator, { type: "operator" })}`,
          "resolver: MEMORY",
          `resolver_preload: { ${accountKey}: ${claim(operator, account, { type: "account", limits })} }`,
        ].join("\n"),
      });
      const file = join(folder, "node.creds");
      const seed = new TextDecoder().decode(user.getSeed());
      writeFileSync(file, credentials(claim(account, user, { type: "user", ...unlimited }), seed), { mode: 0o600 });
      await found("gate-1", { natsServers: own.url, natsCredentials: file });
      // Another's credentials are refused by the server, and the node says so and goes on.
      const stranger = nkeys.createUser();
      const false_ = claim(nkeys.createAccount(), stranger, { type: "user", ...unlimited });
      const other = join(folder, "other.creds");
      writeFileSync(other, credentials(false_, new TextDecoder().decode(stranger.getSeed())), { mode: 0o600 });
      const second = machine("gate-2", { natsServers: own.url, natsCredentials: other });
      expect((await second.cli(["init", "town.example", "--node", "gate-2"])).status).toBe(0);
      await second.start();
      const view = await until(second, ({ reason = "" }) =>
        reason.includes("does not take this node's nkey or credentials"),
      );
      expect(view.state).toBe("offline");
    },
    TEST_MS,
  );
});
