// What becomes of delivered SVIDs when their process ends, when the daemon does, and when the store takes nothing.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { NodeAuthority } from "../../../src/ca.ts";
import { createLog } from "../../../src/daemon/log.ts";
import { type Holder, Ledger, LOOK_EVERY_MS } from "../../../src/daemon/workload_api/ledger.ts";
import { SpiffeId } from "../../../src/spiffe_id.ts";
import { openStore, type Store } from "../../../src/store.ts";
import { ManualClock } from "../../manual_clock.ts";

const APP = SpiffeId.parse("spiffe://example.org/app");
const OTHER = SpiffeId.parse("spiffe://example.org/other");
const HOUR_MS = 3_600_000;
const FIRST: Holder = { pid: 10, startTimeNs: 5n };
const SECOND: Holder = { pid: 11, startTimeNs: 5n };

let store: Store;
let clock: ManualClock;
let running: Set<Holder["pid"]>;
let revoked: [string, string][];
let isStuck: boolean;
const authority: Pick<NodeAuthority, "revoke"> = {
  revoke(serial, reason) {
    if (isStuck) throw new Error("database is locked");
    revoked.push([serial, reason]);
    return "revoked";
  },
};

function openLedger(): Ledger {
  const log = createLog({ level: "error", clock, write: () => undefined });
  return new Ledger({ store, authority, clock, log, isRunning: ({ pid }) => running.has(pid) });
}

function give(ledger: Ledger, holder: Holder, serial: string, { id = APP, lifeMs = HOUR_MS } = {}): void {
  const svid = { serial, spiffeId: id, notAfter: clock.now() + lifeMs };
  store.transaction(() => ledger.write(holder, svid));
  ledger.add(holder, svid);
}

beforeEach(() => {
  store = openStore(":memory:");
  clock = new ManualClock();
  running = new Set([10, 11]);
  revoked = [];
  isStuck = false;
});

afterEach(() => store.close());

/** One round of looks. */
async function look(ledger: Ledger): Promise<void> {
  const stopping = new AbortController();
  const loop = ledger.run(stopping.signal);
  while (clock.waiting === 0) await new Promise<void>((resolve) => setImmediate(resolve));
  stopping.abort();
  await loop;
}

describe("Ledger", () => {
  test("lookSoon() revokes what a process held that has ended, and nothing of one that lives", async () => {
    const ledger = openLedger();
    give(ledger, FIRST, "01");
    give(ledger, FIRST, "02");
    give(ledger, SECOND, "03");
    running.delete(10);
    const looks = [ledger.lookSoon(FIRST), ledger.lookSoon(SECOND)];
    await clock.advance(2000);
    await Promise.all(looks);
    expect(revoked).toEqual([
      ["01", "the process has ended"],
      ["02", "the process has ended"],
    ]);
    expect(ledger.size).toBe(1);
    expect(ledger.revoked).toBe(2);
  });

  test("run() finds the end of a process that kept no connection, and forgets what has ended by itself", async () => {
    const ledger = openLedger();
    give(ledger, FIRST, "01");
    give(ledger, SECOND, "02", { lifeMs: 1000 });
    running.delete(10);
    await clock.advance(LOOK_EVERY_MS);
    await look(ledger);
    expect(revoked).toEqual([["01", "the process has ended"]]);
    expect(ledger.size).toBe(0);
  });

  test("withdraw() revokes all, or only what is of another identity", () => {
    const ledger = openLedger();
    give(ledger, FIRST, "01");
    give(ledger, FIRST, "02", { id: OTHER });
    ledger.withdraw(FIRST, "another identity", OTHER);
    expect(revoked).toEqual([["01", "another identity"]]);
    ledger.withdraw(FIRST, "withdrawn");
    ledger.withdraw(FIRST, "withdrawn");
    expect(revoked.slice(1)).toEqual([["02", "withdrawn"]]);
    expect(ledger.size).toBe(0);
  });

  test("withdraw() keeps what the store would not take, and revokes it at the next look", async () => {
    const ledger = openLedger();
    give(ledger, FIRST, "01");
    isStuck = true;
    ledger.withdraw(FIRST, "withdrawn");
    expect(revoked).toEqual([]);
    isStuck = false;
    await look(ledger);
    expect(revoked).toEqual([["01", "withdrawn"]]);
  });

  test("add() bounds what one process holds: of a thousand and more the oldest are revoked", async () => {
    const ledger = openLedger();
    for (let count = 0; count < 1030; count++) give(ledger, FIRST, String(count).padStart(4, "0"));
    await look(ledger);
    expect(revoked.map(([serial]) => serial)).toEqual(["0000", "0001", "0002", "0003", "0004", "0005"]);
  });

  test("write() and add() tell processes apart that had one number after another", async () => {
    const ledger = openLedger();
    const [later, last] = [6n, 7n].map((startTimeNs): Holder => ({ pid: FIRST.pid, startTimeNs }));
    give(ledger, FIRST, "01");
    give(ledger, later as Holder, "02");
    give(ledger, last as Holder, "03");
    give(ledger, FIRST, "04");
    expect(ledger.size).toBe(3);
    ledger.withdraw(later as Holder, "withdrawn");
    expect(revoked).toEqual([["02", "withdrawn"]]);
    ledger.withdraw(FIRST, "withdrawn");
    expect(revoked.slice(1).map(([serial]) => serial)).toEqual(["01", "04"]);
    expect(ledger.size).toBe(1);
    ledger.withdraw(last as Holder, "withdrawn");
    expect(ledger.size).toBe(0);
    expect(store.prepare("SELECT serial FROM workload_svid").all()).toEqual([]);
  });

  test("constructor() takes up what an earlier daemon delivered, and what is of an earlier boot ends with it", async () => {
    const before = openLedger();
    give(before, FIRST, "01");
    give(before, SECOND, "02");
    give(before, SECOND, "04", { lifeMs: 1000 });
    store
      .prepare("INSERT INTO workload_svid VALUES ('03', 'another boot', 11, '5', ?, ?)")
      .run(APP.toString(), clock.now() + HOUR_MS);
    await clock.advance(2000);
    running.delete(10);
    const after = openLedger();
    await look(after);
    expect(revoked.map(([serial]) => serial).sort()).toEqual(["01", "03"]);
    expect(after.size).toBe(1);
    expect(store.prepare<{ serial: string }>("SELECT serial FROM workload_svid").all()).toEqual([{ serial: "02" }]);
  });
});
