// Names of services: asked as their records expire, and kept when the resolver fails.

import { expect, test } from "bun:test";
import { createLog } from "../../src/daemon/log.ts";
import { NameKeeper, type ResolvedAddress } from "../../src/daemon/name.ts";
import { ManualClock } from "../manual_clock.ts";
import { settle } from "./house.ts";

function keeper() {
  const clock = new ManualClock(0);
  const stop = new AbortController();
  const world = new Map<string, readonly ResolvedAddress[]>();
  const asked: string[] = [];
  let changes = 0;
  const names = new NameKeeper({
    clock,
    log: createLog({ level: "error", clock, write: () => {} }),
    resolve: async (name) => {
      asked.push(`${name} ${clock.now()}`);
      const found = world.get(name);
      if (found === undefined) throw new Error("ENOTFOUND");
      return found;
    },
    onChange: () => {
      changes += 1;
    },
  });
  const running = names.run(stop.signal);
  const leave = async () => {
    stop.abort();
    await running;
  };
  return { clock, world, asked, names, leave, changes: () => changes };
}

test("NameKeeper asks again when the shortest TTL is over, within its bounds", async () => {
  const { clock, world, asked, names, leave } = keeper();
  world.set("short", [{ address: "10.0.0.1", ttlMs: 0 }]);
  world.set("long", [{ address: "10.0.0.2", ttlMs: 86_400_000 }]);
  await names.watch(["long", "short"], 1000);
  await settle();
  await clock.advance(11_000);
  expect(asked.filter((line) => line.startsWith("short"))).toEqual(["short 0", "short 5000", "short 10000"]);
  await clock.advance(300_000);
  expect(asked.filter((line) => line.startsWith("long"))).toEqual(["long 0", "long 300000"]);
  await leave();
});

test("NameKeeper keeps the last addresses and says so when a name cannot be resolved any more", async () => {
  const { clock, world, names, leave, changes } = keeper();
  world.set("web", [{ address: "10.0.0.1", ttlMs: 5000 }]);
  await names.watch(["web", "none"], 1000);
  expect(names.warnings.join()).toContain("Cannot resolve none: ENOTFOUND; rules that name it match nothing");
  world.delete("web");
  await settle();
  await clock.advance(600_000);
  expect(names.addresses()).toEqual(new Map([["web", ["10.0.0.1"]]]));
  expect(names.warnings.join()).toContain("Cannot resolve web: ENOTFOUND; its last known addresses are kept");
  world.set("web", [{ address: "10.0.0.9", ttlMs: 5000 }]);
  await clock.advance(10_000);
  await settle();
  expect(names.addresses().get("web")).toEqual(["10.0.0.9"]);
  expect(changes()).toBe(1);
  await leave();
});

test("watch() forgets a name when no service has it, and waits no longer than its patience", async () => {
  const clock = new ManualClock(0);
  let answer: (found: readonly ResolvedAddress[]) => void = () => {};
  let changes = 0;
  const names = new NameKeeper({
    clock,
    log: createLog({ level: "error", clock, write: () => {} }),
    resolve: () => new Promise((resolve) => (answer = resolve)),
    onChange: () => {
      changes += 1;
    },
  });
  const watching = names.watch(["slow"], 1000);
  await clock.advance(1000);
  await watching;
  expect(names.addresses().size).toBe(0);
  answer([{ address: "10.0.0.1", ttlMs: 5000 }]);
  await settle();
  expect(names.addresses().size).toBe(1);
  expect(changes).toBe(1);
  await names.watch([], 1000);
  expect(names.addresses().size).toBe(0);
});
