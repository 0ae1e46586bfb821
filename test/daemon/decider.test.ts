// The pure rooms of the daemon: renewal times, deadlines, addresses, generated rules, files of rules, flows, logs.

import { describe, expect, test } from "bun:test";
import { FILTER_HAS, FLOW_FLAG, FLOW_STATE } from "../../src/abi.ts";
import { maySelect } from "../../src/daemon/adoption.ts";
import { Condition } from "../../src/daemon/condition.ts";
import { Deadlines } from "../../src/daemon/deadline.ts";
import { FlowStore } from "../../src/daemon/flow.ts";
import { createLog } from "../../src/daemon/log.ts";
import { refresh } from "../../src/daemon/name.ts";
import { createNotifier } from "../../src/daemon/notify.ts";
import { firstSubjectAt, Registry } from "../../src/daemon/registry.ts";
import { RENEWAL_JITTER, renewalTime, retryTime } from "../../src/daemon/renewal.ts";
import { applyText, removeKeys } from "../../src/daemon/rule/file.ts";
import { SpiffeId } from "../../src/spiffe_id.ts";
import { sampleBody, seeded } from "../abi/sample.ts";
import { ManualClock } from "../manual_clock.ts";
import { settle } from "./house.ts";

const QUIET = createLog({ level: "error", clock: new ManualClock(), write: () => {} });

describe("renewalTime()", () => {
  test("renewalTime() lies around half of the life when the random number varies (A-7)", () => {
    const term = { issuedAt: 1000, notAfter: 101_000 };
    expect(renewalTime(term, 0.5)).toBe(51_000);
    expect(renewalTime(term, 0)).toBe(1000 + 100_000 * (0.5 - RENEWAL_JITTER));
    expect(renewalTime(term, 0.999)).toBeLessThan(1000 + 100_000 * (0.5 + RENEWAL_JITTER));
    expect(renewalTime({ issuedAt: 5, notAfter: 1 }, 0.5)).toBe(5);
  });

  test("retryTime() doubles up to half a minute and never past half of what is left when it fails again", () => {
    expect([0, 1, 2, 9, 99].map((attempts) => retryTime(0, undefined, attempts))).toEqual([
      1000, 2000, 4000, 30_000, 30_000,
    ]);
    expect(retryTime(0, { issuedAt: 0, notAfter: 8000 }, 9)).toBe(4000);
    expect(retryTime(0, { issuedAt: 0, notAfter: 100 }, 0)).toBe(250);
    expect(retryTime(10, { issuedAt: 0, notAfter: 5 }, 0)).toBe(1010);
  });
});

describe("Deadlines", () => {
  test("takeDue() gives keys in order of their latest time when times are set, replaced and dropped at random", () => {
    const random = seeded(42);
    const deadlines = new Deadlines<number>(new ManualClock(0));
    const expected = new Map<number, number>();
    for (let round = 0; round < 20_000; round++) {
      const key = random(500);
      if (random(4) === 0) {
        deadlines.delete(key);
        expected.delete(key);
      } else {
        const at = random(1_000_000);
        deadlines.set(key, at);
        expected.set(key, at);
      }
    }
    expect(deadlines.size).toBe(expected.size);
    const early = deadlines.takeDue(500_000);
    const late = deadlines.takeDue(1_000_000);
    const times = [...early, ...late].map((key) => expected.get(key) ?? -1);
    expect(times).toEqual([...expected.values()].sort((a, b) => a - b));
    expect(early.every((key) => (expected.get(key) ?? 0) <= 500_000)).toBe(true);
    expect(deadlines.size).toBe(0);
  });

  test("run() calls at the time when an earlier deadline comes while it sleeps", async () => {
    const clock = new ManualClock(0);
    const deadlines = new Deadlines<string>(clock);
    const stop = new AbortController();
    const seen: string[] = [];
    const running = deadlines.run((key) => seen.push(`${key} ${clock.now()}`), stop.signal);
    deadlines.set("late", 90_000);
    await settle();
    deadlines.set("early", 5000);
    await settle();
    await clock.advance(100_000);
    expect(seen).toEqual(["early 5000", "late 90000"]);
    stop.abort();
    await running;
    expect(clock.waiting).toBe(0);
  });

  test("run() sees within two seconds that the clock was set forward, or that the machine slept", async () => {
    const timer = new ManualClock(0);
    let ahead = 0;
    // A sleep goes by a clock that nobody sets.
    const clock = { now: () => timer.now() + ahead, sleep: timer.sleep.bind(timer) };
    const deadlines = new Deadlines<string>(clock);
    const stop = new AbortController();
    const seen: string[] = [];
    const running = deadlines.run((key) => seen.push(key), stop.signal);
    deadlines.set("renewal", 3_600_000);
    await timer.advance(9000);
    ahead = 7_200_000;
    await timer.advance(2000);
    expect(seen).toEqual(["renewal"]);
    stop.abort();
    await running;
  });

  test("run() calls for every key when the clock was set back, because their times mean nothing any more", async () => {
    const clock = new ManualClock(10_000_000);
    const deadlines = new Deadlines<string>(clock);
    const stop = new AbortController();
    const seen: string[] = [];
    const running = deadlines.run((key) => seen.push(`${key} ${clock.now()}`), stop.signal);
    deadlines.set("renewal", 10_150_000);
    await settle();
    clock.set(6_400_000);
    deadlines.set("other", 6_450_000);
    await settle();
    expect(seen).toEqual(["renewal 6400000", "other 6400000"]);
    stop.abort();
    await running;
  });
});

test("Condition.until() resolves when it holds and rejects when the signal comes first", async () => {
  const condition = new Condition();
  let isSo = false;
  const waiting = condition.until(() => isSo, new AbortController().signal);
  condition.notify();
  isSo = true;
  condition.notify();
  await waiting;
  const stop = new AbortController();
  const never = condition.until(() => false, stop.signal);
  stop.abort(new Error("enough"));
  await expect(never).rejects.toThrow("enough");
});

test("refresh() keeps an address for a while when its name has left it, and never more than a bound", () => {
  const until = new Map<string, number>();
  const at = (address: string) => [{ address, ttlMs: 5000 }];
  expect(refresh(until, at("10.0.0.1"), 0)).toBe(true);
  expect(refresh(until, at("10.0.0.1"), 1000)).toBe(false);
  expect(refresh(until, at("10.0.0.2"), 2000)).toBe(true);
  expect([...until.keys()].sort()).toEqual(["10.0.0.1", "10.0.0.2"]);
  expect(refresh(until, at("10.0.0.2"), 61_001)).toBe(true);
  expect([...until.keys()]).toEqual(["10.0.0.2"]);
  for (let round = 0; round < 40; round++) {
    refresh(
      until,
      Array.from({ length: 100 }, (_, n) => ({ address: `10.${round}.0.${n}`, ttlMs: 1 })),
      70_000 + round,
    );
  }
  expect(until.size).toBe(64);
});

test("maySelect() compares what a filter names and nothing else when it asks", () => {
  const curl = { uid: 1000, name: "curl", exe: "/usr/bin/curl" };
  const filter = (has: number, over: object = {}) => ({ has, ...curl, ...over });
  expect(maySelect([], curl)).toBe(false);
  expect(maySelect([filter(0, { uid: 1, name: "", exe: "" })], curl)).toBe(true);
  expect(maySelect([filter(FILTER_HAS.uid, { name: "x", exe: "x" })], curl)).toBe(true);
  expect(maySelect([filter(FILTER_HAS.uid | FILTER_HAS.name, { name: "x" })], curl)).toBe(false);
  expect(maySelect([filter(FILTER_HAS.exe, { exe: "/usr/bin/cur" }), filter(FILTER_HAS.exe)], curl)).toBe(true);
});

describe("applyText()", () => {
  const a = "kind: A\nmetadata: { name: a }\n";
  const b = "kind: B\nmetadata: { name: b }\nx: 1\n";

  test("applyText() gives each resource a file of its own and takes it out of the one it was in", () => {
    const texts = [{ file: "/r/all.yaml", text: `# mine\n${a}---\n${b}` }];
    const after = applyText(texts, "kind: B\nmetadata: { name: b }\nx: 2\n", "/r");
    expect(after.map(({ file }) => file)).toEqual(["/r/all.yaml", "/r/b-b.yaml"]);
    expect(after[0]?.text).toContain("name: a");
    expect(after[0]?.text).not.toContain("name: b");
    expect(after[1]?.text).toContain("x: 2");
  });

  test("applyText() never names a file outside the directory when a name is hostile", () => {
    const after = applyText([], "kind: ../../etc\nmetadata: { name: ../../../etc/passwd }\n", "/r");
    expect(after.map(({ file }) => file)).toEqual(["/r/etc-passwd.yaml"]);
  });

  test("removeKeys() removes a file when nothing is left in it, and leaves others as they are", () => {
    const texts = [
      { file: "/r/a.yaml", text: a },
      { file: "/r/b.yaml", text: `# note\n${b}` },
      { file: "/r/broken.yaml", text: "kind: [" },
    ];
    expect(removeKeys(texts, [{ kind: "A", name: "a" }])).toEqual(texts.slice(1));
  });
});

describe("FlowStore", () => {
  const bounds = { live: 4, ended: 8, queue: 3 };
  const event = (flow: number, state: number) => ({
    ...sampleBody("flow"),
    flow: BigInt(flow),
    state,
    openedNs: BigInt(flow) * 1_000_000n,
    flags: FLOW_FLAG.inbound,
  });
  const context = { process: "curl", own: "", rule: undefined };

  test("list() is bounded and in order when more flows come than it keeps", () => {
    const store = new FlowStore(bounds);
    for (let flow = 1; flow <= 100; flow++)
      store.take(event(flow, flow % 2 === 0 ? FLOW_STATE.open : FLOW_STATE.denied), 0, context);
    expect(store.liveCount).toBe(4);
    expect(store.list({ live: true, limit: 99 }).map(({ flow }) => flow)).toEqual(["94", "96", "98", "100"]);
    const all = store.list({ live: false, limit: 99 });
    expect(all.length).toBe(12);
    expect(all.map(({ flow }) => Number(flow))).toEqual(all.map(({ flow }) => Number(flow)).sort((x, y) => x - y));
    expect(store.list({ live: false, limit: 3 }).map(({ flow }) => flow)).toEqual(["98", "99", "100"]);
  });

  test("list() keeps whose a flow is when process and identity have ended before it", () => {
    const store = new FlowStore(bounds);
    const own = "spiffe://edge.test/curl";
    store.take(event(1, FLOW_STATE.open), 0, { ...context, own });
    store.take(event(1, FLOW_STATE.closed), 0, { ...context, process: "" });
    expect(store.list({ limit: 1 })).toMatchObject([{ state: "closed", process: "curl", own }]);
  });

  test("list() keeps a flow that was denied when many others close after it", () => {
    const store = new FlowStore(bounds);
    store.take(event(1, FLOW_STATE.denied), 0, context);
    for (let flow = 2; flow <= 100; flow++) store.take(event(flow, FLOW_STATE.closed), 0, context);
    store.take(event(101, FLOW_STATE.cut), 0, context);
    store.take(event(102, FLOW_STATE.open), 0, context);
    expect(store.list({ broken: true, limit: 99 }).map(({ flow }) => flow)).toEqual(["1", "101"]);
    expect(store.list({ limit: 99 }).map(({ flow }) => flow)).toContain("1");
  });

  test("follow() drops the oldest events and counts them when its reader is slow", async () => {
    const store = new FlowStore(bounds);
    const stop = new AbortController();
    const events = store.follow(stop.signal);
    for (let flow = 1; flow <= 5; flow++) store.take(event(flow, FLOW_STATE.denied), 0, context);
    expect(store.lost).toBe(2);
    stop.abort();
    const seen: string[] = [];
    for await (const { flow } of events ?? []) seen.push(flow);
    expect(seen).toEqual(["3", "4", "5"]);
  });

  test("follow() refuses when too many follow, and has room again when one leaves", () => {
    const store = new FlowStore(bounds);
    const stops = Array.from({ length: 64 }, () => new AbortController());
    for (const { signal } of stops) expect(store.follow(signal)).toBeDefined();
    expect(store.follow(new AbortController().signal)).toBeUndefined();
    stops[0]?.abort();
    expect(store.follow(new AbortController().signal)).toBeDefined();
  });
});

describe("Registry", () => {
  test("retain() frees the numbers of IDs that nobody has when they are not kept", () => {
    const registry = new Registry();
    const [a, b, c] = ["a", "b", "c"].map((name) => SpiffeId.parse(`spiffe://edge.test/${name}`)) as [
      SpiffeId,
      SpiffeId,
      SpiffeId,
    ];
    expect([a, b, c].map((id) => registry.enrol(id))).toEqual([1, 2, 3]);
    registry.retain([b]);
    expect([...registry.subjects().keys()]).toEqual([2]);
    expect(registry.restore(9, a)).toBe(true);
    expect(registry.restore(9, c)).toBe(false);
    expect(registry.restore(4, a)).toBe(false);
    expect(registry.restore(0, c)).toBe(false);
    expect(registry.enrol(c)).toBe(4);
  });

  test("enrol() gives a daemon that starts later other numbers than the one before, within a u32", () => {
    const begun = Date.UTC(2026, 0, 1);
    const numberAt = (now: number) => new Registry(firstSubjectAt(now)).enrol(SpiffeId.parse("spiffe://edge.test/a"));
    expect(numberAt(begun + 3_600_000) - numberAt(begun)).toBe(3600);
    expect(numberAt(0)).toBe(1);
    expect(numberAt(Date.UTC(2500, 0, 1))).toBe(2 ** 31);
  });
});

describe("createLog()", () => {
  test("createLog() writes one line of JSON when the level is severe enough", () => {
    const lines: string[] = [];
    const log = createLog({
      level: "warn",
      clock: new ManualClock("2026-01-02T03:04:05Z"),
      write: (line) => void lines.push(line),
    });
    log.info("quiet");
    log.warn("an event\nof two lines", { pid: 7, instance: 9n, text: `${"x".repeat(5000)}\n`, none: undefined });
    expect(lines.length).toBe(1);
    expect(lines[0]?.trimEnd()).not.toContain("\n");
    const line = JSON.parse(lines[0] ?? "");
    expect(line).toMatchObject({ time: "2026-01-02T03:04:05.000Z", level: "warn", pid: 7, instance: "9" });
    expect(line.text.length).toBe(2049);
  });
});

describe("createNotifier()", () => {
  test("createNotifier() says ready and stays alive when systemd asks for it", async () => {
    const clock = new ManualClock(0);
    const sent: string[] = [];
    const environment = { NOTIFY_SOCKET: "/run/notify", WATCHDOG_USEC: "3000000" };
    const notifier = createNotifier({
      environment,
      clock,
      log: QUIET,
      send: (path, text) => void sent.push(`${path} ${text}`),
    });
    notifier.ready("enforcing");
    const stop = new AbortController();
    const running = notifier.runWatchdog(stop.signal);
    await clock.advance(2500);
    stop.abort();
    await running;
    notifier.stopping();
    expect(sent).toEqual([
      "/run/notify READY=1\nSTATUS=enforcing",
      ...new Array(3).fill("/run/notify WATCHDOG=1"),
      "/run/notify STOPPING=1",
    ]);
  });

  test("createNotifier() says nothing when nobody asked, and never throws when the socket is gone", async () => {
    const options = { clock: new ManualClock(), log: QUIET };
    createNotifier({ ...options, environment: {}, send: () => expect.unreachable() }).ready("x");
    createNotifier({ ...options, environment: { NOTIFY_SOCKET: "/nonexistent/notify" } }).ready("x");
  });
});
