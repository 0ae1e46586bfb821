// An issuing node and who comes to it with a token: what gets into the roster and under which name, and what strangers can cost.

import { afterEach, beforeEach, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createEnrolmentRequest, initTrustDomain, openNodeKeys, signEnrolment } from "../../../src/ca.ts";
import type { MadeToken } from "../../../src/daemon/fleet/admitter.ts";
import { openFleetKey } from "../../../src/daemon/fleet/member.ts";
import type { FleetRoom } from "../../../src/daemon/fleet/open.ts";
import { openTokenTable } from "../../../src/daemon/fleet/token_table.ts";
import type { Log } from "../../../src/daemon/log.ts";
import type { EnrolmentRequest } from "../../../src/enrolment.ts";
import { RiprapError } from "../../../src/error.ts";
import { encodeEnrolmentRequest } from "../../../src/federation/enrolment.ts";
import { openEpochStore } from "../../../src/federation/fleet_store.ts";
import { type JoinReply, startJoin } from "../../../src/federation/join.ts";
import { parseToken } from "../../../src/federation/token.ts";
import type { Admission } from "../../../src/fleet.ts";
import { openStore, type Store, storePath } from "../../../src/store.ts";
import { ManualClock } from "../../manual_clock.ts";
import { eventually } from "../house.ts";
import { openLoneFleet } from "./lone_fleet.ts";

const DOMAIN = "town.example";
const HOUR_MS = 3_600_000;

let folder: string;
let store: Store;
let clock: ManualClock;
let room: FleetRoom;
let warnings: string[];
let errors: string[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "riprap-admitter-"));
  clock = new ManualClock();
  warnings = [];
  errors = [];
  await initTrustDomain({ stateDir: join(folder, "issuer"), trustDomain: DOMAIN, nodeName: "gate-1", clock });
  await open();
});

afterEach(() => {
  store.close();
  rmSync(folder, { recursive: true, force: true });
});

/** The issuing node begins, or begins again with what its disk has. */
async function open(): Promise<void> {
  const stateDir = join(folder, "issuer");
  store = openStore(storePath(stateDir));
  const log: Log = {
    error: (text) => void errors.push(text),
    warn: (text) => void warnings.push(text),
    info() {},
    debug() {},
  };
  room = await openLoneFleet({ stateDir, store, clock, log });
}

const tokenFor = (over: Partial<Admission> = {}): MadeToken =>
  room.admitter.create({
    admission: {
      nodeName: undefined,
      group: "edge",
      idPrefixes: [`spiffe://${DOMAIN}/`],
      needsApproval: false,
      mayReplace: false,
      ...over,
    },
    ...{ lifetimeMs: HOUR_MS, createdBy: "test", servers: ["nats://broker.example:4222"] },
  });

interface Machine {
  readonly name: string;
  readonly inner: EnrolmentRequest;
  /** Asks as `name`, whatever its document says. */
  ask(token: MadeToken, name?: string): Promise<JoinReply>;
}

async function machine(name: string): Promise<Machine> {
  const stateDir = mkdtempSync(join(folder, "machine-"));
  const inner = await createEnrolmentRequest({ stateDir, trustDomain: DOMAIN, nodeName: name, clock });
  const signer = openFleetKey(openNodeKeys(stateDir));
  const ask = async ({ text }: MadeToken, nodeName = name) => {
    const request = { time: clock.now(), nodeName, enrolment: encodeEnrolmentRequest(inner), nkey: "", version: "1" };
    const { bytes, finish } = startJoin(parseToken(text), request, signer);
    return finish(await send(bytes));
  };
  return { name, inner, ask };
}

const send = (data: Uint8Array) =>
  new Promise<Uint8Array>((resolve) => room.admitter.answer({ subject: "join", data, respond: resolve }));
const codeOf = (reply: JoinReply) => (reply.outcome === "refused" ? reply.code : reply.outcome);
const useOf = ({ record }: MadeToken) => room.admitter.list().find(({ id }) => id === record.id)?.use.state;
const isInRoster = (name: string) => room.fleet.nodes().some((node) => node.name === name);

test("Admitter.answer() lets a machine in under the name that it and its token say, and no other", async () => {
  const token = tokenFor({ nodeName: "gate-9" });
  const evil = await machine("evil");
  const reply = await evil.ask(token, "gate-9");
  expect(codeOf(reply)).toBe("join_name");
  expect(useOf(token)).toBe("unused");
  expect(room.fleet.nodes().map(({ name }) => name)).toEqual(["gate-1"]);
  expect(room.fleet.journal.events(10).map(({ event }) => event)).not.toContain("node joined");
  const honest = await machine("gate-9");
  expect(codeOf(await honest.ask(token))).toBe("granted");
  expect(isInRoster("gate-9")).toBe(true);
});

test("Admitter.answer() gives no machine the name of another node by its inner document, with a token for any name too", async () => {
  await (await machine("gate-2")).ask(tokenFor());
  const before = room.fleet.nodes().find(({ name }) => name === "gate-2")?.key;
  const thief = await machine("gate-2");
  for (const over of [{}, { mayReplace: false, needsApproval: true }]) {
    const token = tokenFor(over);
    expect(codeOf(await thief.ask(token, "gate-9"))).toBe("join_name");
    expect(codeOf(await thief.ask(token))).toBe("node_exists");
    expect(useOf(token)).toBe("unused");
  }
  expect(room.fleet.nodes().find(({ name }) => name === "gate-2")?.key).toBe(before as string);
  expect(room.admitter.pending()).toEqual([]);
});

test("Admitter.answer() refuses an enrolment document that is none, without spending the token", async () => {
  const token = tokenFor();
  const request = { time: clock.now(), nodeName: "gate-2", enrolment: "{}", nkey: "", version: "1" };
  const { bytes, finish } = startJoin(
    parseToken(token.text),
    request,
    openFleetKey(openNodeKeys(join(folder, "issuer"))),
  );
  expect(codeOf(finish(await send(bytes)))).toBe("document_wrong_kind");
  expect(useOf(token)).toBe("unused");
});

const refusals = () => room.fleet.journal.events(10_000).filter(({ event }) => event === "join refused");

test("Admitter.answer() tells of strangers once a minute and reason, and how many more there were", async () => {
  const stop = new AbortController();
  const running = room.admitter.run(stop.signal);
  const token = tokenFor();
  const stranger = { ...parseToken(token.text), secret: new Uint8Array(32) };
  const request = { time: clock.now(), nodeName: "gate-2", enrolment: "{}", nkey: "", version: "1" };
  const forged = startJoin(stranger, request, openFleetKey(openNodeKeys(join(folder, "issuer")))).bytes;
  for (let i = 0; i < 300; i++) for (const data of [Uint8Array.of(i), forged]) await send(data);
  expect(refusals().map(({ detail }) => detail.split(":")[0])).toEqual(["join_malformed", "join_forged"]);
  expect(warnings.length).toBe(2);
  expect(room.admitter.counters.refused).toBe(600);
  await clock.advance(60_000);
  const details = refusals().map(({ detail }) => detail);
  expect(details.slice(2)).toEqual([
    "join_malformed: 299 more within a minute",
    "join_forged: 299 more within a minute",
  ]);
  await clock.advance(600_000);
  await send(Uint8Array.of(1));
  expect(refusals().length).toBe(5);
  stop.abort();
  await running;
});

test("FleetJournal keeps what happened, however many joins were refused after it", () => {
  const { journal } = room.fleet;
  journal.record("revoked", "node:gate-7", "a thief has it");
  store.transaction(() => {
    for (let i = 0; i < 12_000; i++) journal.record("join refused", "a stranger", "join_malformed");
  });
  const kept = journal.events(20_000);
  expect(kept.some(({ subject }) => subject === "node:gate-7")).toBe(true);
  expect(refusals().length).toBeLessThan(1300);
  store.transaction(() => {
    for (let i = 0; i < 12_000; i++) journal.record("changed", "presence", "");
  });
  expect(journal.events(20_000).length).toBeLessThan(10_600);
});

test("Admitter.answer() lets no more requests wait than are answered in time, and of one token only a few", async () => {
  const { ask } = await machine("gate-2");
  const token = tokenFor({ needsApproval: true });
  const replies = await Promise.all(Array.from({ length: 20 }, () => ask(token)));
  const codes = replies.map(codeOf);
  expect(codes.filter((code) => code === "pending").length).toBe(8);
  expect(codes.filter((code) => code === "join_busy").length).toBe(12);
  expect(codeOf(await ask(token))).toBe("pending");
});

/** The issuing node dies after the CA has journalled the certificate, before the roster has the node. */
async function grantCutShort(joining: Machine, token: MadeToken): Promise<void> {
  const { fleet } = room;
  fleet.say = () => {
    throw new Error("the power went");
  };
  void joining.ask(token).catch(() => undefined);
  await eventually(() => useOf(token) === "used" && errors.length > 0);
  errors = [];
  store.close();
  await open();
}

test("Admitter.answer() lets the same machine in whose certificate was signed before the issuing node died", async () => {
  for (const mayReplace of [false, true]) {
    const name = `gate-${mayReplace ? 3 : 2}`;
    const [joining, token] = [await machine(name), tokenFor({ mayReplace })];
    await grantCutShort(joining, token);
    expect(isInRoster(name)).toBe(false);
    expect(codeOf(await (await machine(name)).ask(token))).toBe("token_spent");
    expect(codeOf(await joining.ask(token))).toBe("granted");
    expect(room.fleet.nodes().find((node) => node.name === name)).toMatchObject({
      group: "edge",
      admittedBy: `token ${token.record.id}`,
    });
  }
});

test("Admitter.answer() lets the same machine in after the roster could not be kept", async () => {
  const [joining, token] = [await machine("gate-2"), tokenFor()];
  const say = room.fleet.say.bind(room.fleet);
  room.fleet.say = () => {
    throw new RiprapError("fleet_refused", "Cannot say it");
  };
  expect(codeOf(await joining.ask(token))).toBe("fleet_refused");
  room.fleet.say = say;
  expect(codeOf(await joining.ask(token))).toBe("granted");
  expect(isInRoster("gate-2")).toBe(true);
});

test("Admitter.answer() gives a name that was enrolled by file meanwhile to no token's retry", async () => {
  const [joining, token] = [await machine("gate-2"), tokenFor()];
  await grantCutShort(joining, token);
  const { inner } = await machine("gate-2");
  await signEnrolment({ stateDir: join(folder, "issuer"), request: inner, replace: true, clock });
  expect(codeOf(await joining.ask(token))).toBe("node_enrolled");
});

test("Admitter.answer() lets nobody in with a token that a node of the roster came with, though this node's own record is older", async () => {
  const [joining, token] = [await machine("gate-2"), tokenFor()];
  expect(codeOf(await joining.ask(token))).toBe("granted");
  openTokenTable(store, openNodeKeys(join(folder, "issuer"))).put(token.record);
  expect(useOf(token)).toBe("unused");
  const thief = await machine("gate-3");
  expect(await thief.ask(token)).toMatchObject({ code: "token_spent", message: expect.stringContaining("gate-2") });
  expect(useOf(token)).toBe("unused");
  expect(isInRoster("gate-3")).toBe(false);
});

test("Admitter.answer() has a spent token on the disk before the answer leaves, and writes nothing through for others", async () => {
  const settled = spyOn(Object.getPrototypeOf(store) as Store, "settle");
  const token = tokenFor({ needsApproval: true });
  const joining = await machine("gate-2");
  expect(codeOf(await joining.ask(token))).toBe("pending");
  await send(Uint8Array.of(1));
  expect(settled).not.toHaveBeenCalled();
  settled.mockImplementation(() => expect(useOf(token)).toBe("used"));
  room.admitter.decide("gate-2", "approved", "test");
  expect(codeOf(await joining.ask(token))).toBe("granted");
  expect(settled).toHaveBeenCalledTimes(1);
  settled.mockRestore();
});

test("openEpochStore() has the epoch on the disk before this node speaks in it", () => {
  const settled = spyOn(store, "settle");
  openEpochStore(store).write(7);
  expect(settled).toHaveBeenCalledTimes(1);
});

test("signEnrolment() signs a key again for the token with which it came, and for no other", async () => {
  const { inner } = await machine("gate-2");
  const sign = (token?: string) =>
    signEnrolment({
      stateDir: join(folder, "issuer"),
      request: inner,
      clock,
      ...(token === undefined ? {} : { token }),
    });
  await sign("a");
  expect((await sign("a")).nodeName).toBe("gate-2");
  for (const other of ["b", undefined]) {
    await expect(sign(other)).rejects.toMatchObject({ code: "request_repeated" });
  }
});
