// A node whose name the roster gives to another key, or to nobody: it goes on by the fleet's rules and revocations, and speaks no more.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initTrustDomain } from "../../../src/ca.ts";
import type { FleetHooks } from "../../../src/daemon/fleet/hook.ts";
import type { FleetRoom } from "../../../src/daemon/fleet/open.ts";
import { announceRevocation, createFleetPort } from "../../../src/daemon/fleet/port.ts";
import type { Log } from "../../../src/daemon/log.ts";
import { type NodeBody, writeBody } from "../../../src/federation/body.ts";
import { draftResource } from "../../../src/federation/resource_claim.ts";
import { signStatement } from "../../../src/federation/statement.ts";
import type { FleetScope } from "../../../src/fleet.ts";
import { openStore, type Store, storePath } from "../../../src/store.ts";
import { authorityId, hex, service, voice } from "../../federation/fleet_fixture.ts";
import { joinWith, Machine, until } from "../../fleet/machine.ts";
import { NATS_SERVER, openPark } from "../../fleet/nats_server.ts";
import { ManualClock } from "../../manual_clock.ts";
import { openLoneFleet } from "./lone_fleet.ts";

const DOMAIN = "town.example";
const NODE = "gate-1";
const OTHER = {
  spiffeId: `spiffe://${DOMAIN}/other`,
  certificates: [{ serial: "41aa", authority: authorityId("ada") }],
};
const STRANGE = { ...OTHER, certificates: [{ serial: "41aa", authority: authorityId("stranger") }] };

let folder: string;
let store: Store;
let clock: ManualClock;
let room: FleetRoom;
let errors: string[];
let own: (readonly string[])[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "riprap-displaced-"));
  clock = new ManualClock();
  await initTrustDomain({ stateDir: folder, trustDomain: DOMAIN, nodeName: NODE, clock });
  await open();
});

afterEach(() => {
  store.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Opens the node's fleet from what lies on its disk. */
async function open(): Promise<void> {
  errors = [];
  own = [];
  store = openStore(storePath(folder));
  const log: Log = { error: (event) => void errors.push(event), warn() {}, info() {}, debug() {} };
  const trustChanged: FleetHooks["trustChanged"] = (_revoked, authorities) => void own.push(authorities);
  room = await openLoneFleet({ stateDir: folder, store, clock, log, hooks: { trustChanged } });
}

async function restart(): Promise<void> {
  store.close();
  await open();
}

function sayNode(name: string, over: Partial<NodeBody>, isDeleted = false): void {
  const { fleet } = room;
  const body: NodeBody = {
    ...{ key: hex(voice(name).publicKey), authorities: [authorityId(name)], group: "default" },
    ...{ idPrefixes: [`spiffe://${DOMAIN}/`], admittedBy: "token", admittedAt: clock.now(), ...over },
  };
  const rest = isDeleted ? { isDeleted, body: new Uint8Array() } : { body: writeBody("node", body) };
  const draft = fleet.state.draft({ kind: "node", name, time: clock.now(), ...rest }, "");
  expect(fleet.take([signStatement(draft, fleet.signer)], "a test")).toBe(1);
}

function sayService(name: string, scope: FleetScope): void {
  const draft = draftResource({ trustDomain: DOMAIN, document: service(name), scope, revision: 1, time: clock.now() });
  const operator = room.operator();
  if (operator === undefined) throw new Error("the first node has an operator's key");
  expect(room.fleet.take([signStatement(draft, operator)], "a test")).toBe(1);
}

const port = () => createFleetPort(room, { clock, nodeName: NODE, check: () => [] });
const services = () => room.fleet.texts().map(({ file }) => file);
const judged = (path: typeof OTHER) => {
  const may = room.fleet.judgePath(path);
  return may.ok ? "ok" : may.code;
};

/** In the group `edge`, with rules and another node; the root is taken elsewhere, or its holder would take itself in again. */
async function furnish(): Promise<void> {
  rmSync(join(folder, "ca", "root.key"));
  await restart();
  const { fleet } = room;
  sayNode(NODE, { key: hex(fleet.signer.publicKey), authorities: fleet.self?.authorities ?? [], group: "edge" });
  sayNode("ada", {});
  sayService("everywhere", { type: "all" });
  sayService("edge", { type: "group", name: "edge" });
  sayService("here", { type: "node", name: NODE });
  sayService("elsewhere", { type: "group", name: "elsewhere" });
}

const MEANT = ["fleet/Service/edge", "fleet/Service/everywhere", "fleet/Service/here"];

const ADA_REVOKED = {
  kind: "revocation",
  name: "node:ada",
  time: 0,
  body: writeBody("revocation", { reason: "test", keep: [] }),
} as const;

describe("a displaced node", () => {
  for (const [how, displace] of [
    ["another key has its name", () => sayNode(NODE, { key: hex(voice("thief").publicKey), group: "edge" })],
    ["its entry is deleted", () => sayNode(NODE, {}, true)],
  ] as const)
    test(`keeps rules, revocations and the roster's judgement when ${how}, over a restart too`, async () => {
      await furnish();
      expect([services(), judged(OTHER), judged(STRANGE)]).toEqual([MEANT, "ok", "authority_unknown"]);
      const { authorities } = room.fleet.self ?? {};
      displace();
      for (const isRestarted of [false, true]) {
        if (isRestarted) await restart();
        const { fleet } = room;
        expect([fleet.self, fleet.isSpeaker()]).toEqual([undefined, false]);
        expect([services(), judged(OTHER), judged(STRANGE)]).toEqual([MEANT, "ok", "authority_unknown"]);
        expect([...fleet.groups()]).toEqual(["edge"]);
        expect(errors.filter((event) => event.includes("no longer this node's"))).toHaveLength(1);
      }
      const draft = room.fleet.state.draft(ADA_REVOKED, "");
      expect(room.fleet.take([signStatement(draft, room.fleet.signer)], "a test")).toBe(1);
      expect([judged(OTHER), own.at(-1)]).toEqual(["node_revoked", authorities]);
    });

  test("says nothing in its own name or a person's, and tells a person what to do", async () => {
    await furnish();
    sayNode(NODE, { key: hex(voice("thief").publicKey) });
    const remedy = expect.stringContaining("join again");
    const { state, reason } = port().status();
    expect([state, reason]).toEqual(["displaced", remedy]);
    expect(() => room.fleet.say(ADA_REVOKED)).toThrow("join again");
    expect(judged(OTHER)).toBe("ok");
    await expect(room.fleet.converge()).rejects.toMatchObject({ code: "fleet_displaced", message: remedy });
    await expect(room.fleet.ask("ada", { type: "root", payload: new Uint8Array() }, 1)).rejects.toMatchObject({
      code: "fleet_displaced",
    });
    const serial = { type: "serial", authority: authorityId("gate-1"), value: "41aa" } as const;
    const note = await announceRevocation(room, port(), { target: serial, reason: "test" });
    expect(note).toEqual(expect.stringContaining("where no other node hears it"));
  });

  test("is a member again when the roster gives it its name back", async () => {
    await furnish();
    const { authorities = [] } = room.fleet.self ?? {};
    sayNode(NODE, { key: hex(voice("thief").publicKey) });
    sayNode(NODE, { key: hex(room.fleet.signer.publicKey), authorities, group: "elsewhere" });
    expect(room.fleet.self?.name).toBe(NODE);
    expect(services()).toEqual(["fleet/Service/elsewhere", "fleet/Service/everywhere", "fleet/Service/here"]);
    expect(port().revoke({ type: "node", value: "ada" }, "test")).toHaveLength(64);
  });
});

test("a node whose entry does not name the authority that it signs with tells a person so", async () => {
  await furnish();
  const { fleet } = room;
  const named = { key: hex(fleet.signer.publicKey), authorities: fleet.self?.authorities ?? [] };
  expect([room.isUnnamed(), port().status().warnings]).toEqual([false, []]);
  sayNode(NODE, { ...named, authorities: [authorityId("older")] });
  expect(room.isUnnamed()).toBe(true);
  expect(port().status().warnings).toEqual([expect.stringContaining("riprap fleet renew")]);
  sayNode(NODE, { ...named, authorities: [authorityId("older"), ...named.authorities] });
  expect(room.isUnnamed()).toBe(false);
});

const RULE = `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: web }
spec:
  workloadID: web
  selectors: [{ "process:name": "web" }]
`;

test.skipIf(NATS_SERVER === null)(
  "a machine whose name was given to another goes on by the fleet's rules and hears what is revoked, until it joins again",
  async () => {
    const nats = openPark();
    const machines: Machine[] = [];
    const machine = (name: string, natsServers: string) => {
      const made = new Machine(join(folder, name), { natsServers, nodeAddresses: "10.0.0.1" });
      machines.push(made);
      return made;
    };
    const isConnected = ({ state }: { state: string }) => state === "connected";
    try {
      const { url } = await nats.single();
      const first = machine("first", url);
      expect(await first.cli(["init", "city.example", "--node", "gate-1"])).toMatchObject({ status: 0 });
      await first.start();
      await until(first, isConnected);
      const join = async (on: Machine, ...options: string[]) => {
        const { out: token } = await first.cli(["token", "create", "--node", "gate-2", "--group", "gates", ...options]);
        expect(await joinWith(on, "gate-2", token)).toMatchObject({ status: 0 });
        await on.start();
        await until(on, isConnected);
      };
      const old = machine("old", url);
      await join(old);
      writeFileSync(`${folder}/web.yaml`, RULE);
      await first.cli(["apply", "--fleet", "--group", "gates", "-f", `${folder}/web.yaml`]);
      await until(old, ({ generation }) => generation.number === 1);
      const fresh = machine("fresh", url);
      await join(fresh, "--replace");
      for (const isRestarted of [false, true]) {
        if (isRestarted) {
          await old.stop();
          await old.start();
        }
        const { reason } = await until(old, ({ state, server }) => state === "displaced" && server !== undefined);
        expect(reason).toContain("another key under the name gate-2");
        expect(await old.json<{ name: string }[]>("get", "WorkloadIdentity")).toMatchObject([{ name: "web" }]);
        expect(await old.cli(["fleet", "converge"])).toMatchObject({ status: 1 });
        // Each question is to one name: the old machine must not be in the way of the answer.
        for (let i = 0; i < 10; i++) expect(await first.cli(["fleet", "converge"])).toMatchObject({ status: 0 });
        const target = `id:spiffe://city.example/ended-${isRestarted}`;
        expect(await first.cli(["revoke", target, "--reason", "test"])).toMatchObject({ status: 0 });
        await until(old, ({ revocations }) => revocations.some((each) => each.target === target));
      }
    } finally {
      for (const each of machines) await each.stop();
      await nats.leave();
    }
  },
  60_000,
);
