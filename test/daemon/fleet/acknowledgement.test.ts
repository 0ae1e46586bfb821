// What a node says of the generation that it has applied: when the rules are in force, and never of those that could not be.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initTrustDomain } from "../../../src/ca.ts";
import type { FleetHooks } from "../../../src/daemon/fleet/hook.ts";
import type { FleetRoom } from "../../../src/daemon/fleet/open.ts";
import type { Log } from "../../../src/daemon/log.ts";
import { draftResource } from "../../../src/federation/resource_claim.ts";
import { signStatement } from "../../../src/federation/statement.ts";
import { openStore, type Store, storePath } from "../../../src/store.ts";
import { ManualClock } from "../../manual_clock.ts";
import { eventually } from "../house.ts";
import { openLoneFleet } from "./lone_fleet.ts";

const DOMAIN = "town.example";
/** Longer than a presence waits for its turn. */
const LATER_MS = 1000;
const QUIET: Log = { error() {}, warn() {}, info() {}, debug() {} };

let folder: string;
let store: Store;
let clock: ManualClock;
let room: FleetRoom;
let stop: AbortController;
let running: Promise<void>;
/** Each is one wish to apply, and ends when the test says so: with a sentence when it could not be. */
let applying: ((failure: string | undefined) => void)[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "riprap-acknowledgement-"));
  clock = new ManualClock();
  await initTrustDomain({ stateDir: folder, trustDomain: DOMAIN, nodeName: "gate-1", clock });
  store = openStore(storePath(folder));
  applying = [];
  const applyResources: FleetHooks["applyResources"] = () => new Promise((resolve) => void applying.push(resolve));
  room = await openLoneFleet({ stateDir: folder, store, clock, log: QUIET, hooks: { applyResources } });
  stop = new AbortController();
  running = room.fleet.run(stop.signal);
});

afterEach(async () => {
  stop.abort();
  for (const end of applying) end(undefined);
  await running;
  store.close();
  rmSync(folder, { recursive: true, force: true });
});

/** The fleet has another rule; answers the digest of the generation that it is in. */
function say(name: string): string {
  const document = {
    ...{ apiVersion: "riprap.io/v1", kind: "WorkloadIdentity", metadata: { name } },
    spec: { workloadID: name, selectors: [{ "process:name": name }] },
  };
  const signer = room.operator();
  if (signer === undefined) throw new RangeError("the first node has the operator's key");
  const draft = draftResource({
    ...{ trustDomain: DOMAIN, document, scope: { type: "all" }, revision: 1, time: clock.now() },
  });
  expect(room.fleet.takeOne(signStatement(draft, signer), "a person")).toMatchObject({ taken: true });
  return room.fleet.state.generation().digest;
}

async function end(index: number, failure?: string): Promise<void> {
  await eventually(() => applying.length > index);
  applying[index]?.(failure);
}

/** What it has said of itself until now. */
async function said(): Promise<{ applied: string | undefined; failure: string | undefined }> {
  for (let i = 0; i < 3; i++) await clock.advance(LATER_MS);
  const presence = room.fleet.self?.presence;
  return { applied: presence?.applied?.digest, failure: presence?.failure };
}

test("Fleet says that it has applied a generation when that is in force, and not before", async () => {
  const before = await said();
  const digest = say("first");
  await eventually(() => applying.length === 1);
  expect(await said()).toEqual(before);
  await end(0);
  expect(await said()).toEqual({ applied: digest, failure: undefined });
});

test("Fleet says of rules that came while it applied others that it has them when they are in force too", async () => {
  const first = say("first");
  await eventually(() => applying.length === 1);
  const second = say("second");
  await end(0);
  await eventually(() => applying.length === 2);
  expect(await said()).toEqual({ applied: first, failure: undefined });
  await end(1);
  expect(await said()).toEqual({ applied: second, failure: undefined });
});

test("Fleet says why it cannot apply a generation, and that the one before is in force", async () => {
  const good = say("good");
  await end(0);
  expect(await said()).toEqual({ applied: good, failure: undefined });
  const bad = say("bad");
  await end(1, "two rules give one process two IDs");
  expect(await said()).toEqual({ applied: good, failure: "two rules give one process two IDs" });
  expect(bad).not.toBe(good);
  const mended = say("mended");
  await end(2);
  expect(await said()).toEqual({ applied: mended, failure: undefined });
});
