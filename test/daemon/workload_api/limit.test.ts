// How much one caller gets.

import { describe, expect, test } from "bun:test";
import { CallerLimits } from "../../../src/daemon/workload_api/limit.ts";

const PROCESS = { connections: 2, calls: 3, burst: 10, callsPerSecond: 5 };
const USER = { connections: 3, calls: 5, burst: 16, callsPerSecond: 8 };
const ALICE = { pid: 10, uid: 1000, startTimeNs: 1n };
const OTHER = { pid: 11, uid: 1000, startTimeNs: 1n };
const BOB = { pid: 12, uid: 1001, startTimeNs: 1n };

const make = (connections = 100) => new CallerLimits({ process: PROCESS, user: USER, connections });

describe("CallerLimits", () => {
  test("connect() bounds a process and its user, and harms no other user", () => {
    const limits = make();
    const held = [limits.connect(ALICE, 0), limits.connect(ALICE, 0)];
    expect(limits.connect(ALICE, 0)).toBeUndefined();
    expect(limits.connect(OTHER, 0)).toBeDefined();
    expect(limits.connect(OTHER, 0)).toBeUndefined();
    expect(limits.connect(BOB, 0)).toBeDefined();
    held[0]?.();
    held[0]?.();
    expect(limits.connect(ALICE, 0)).toBeDefined();
    expect(limits.connect(ALICE, 0)).toBeUndefined();
  });

  test("connect() bounds everybody together", () => {
    const limits = make(2);
    const release = limits.connect(ALICE, 0);
    limits.connect(BOB, 0);
    expect(limits.connect(OTHER, 0)).toBeUndefined();
    release?.();
    expect(limits.connect(OTHER, 0)).toBeDefined();
  });

  test("isSpent() tells of a user's bounds before its process is looked at, and takes nothing", () => {
    const bounds = { connections: 2, calls: 2, burst: 3, callsPerSecond: 1 };
    const limits = new CallerLimits({ process: bounds, user: bounds, connections: 9 });
    const who = (pid: number) => ({ pid, uid: 7, startTimeNs: 0n });
    for (let count = 0; count < 10; count++) expect(limits.isSpent(7, 0)).toBe(false);
    const first = limits.connect(who(1), 0);
    limits.connect(who(2), 0);
    expect([limits.isSpent(7, 0), limits.isSpent(8, 0)]).toEqual([true, false]);
    first?.();
    expect(limits.isSpent(7, 0)).toBe(false);
    limits.call(who(1), 0);
    expect([limits.isSpent(7, 0), limits.isSpent(7, 1000)]).toEqual([true, false]);
  });

  test("look() lets four looks of a user be under way, and costs a token each", () => {
    const bounds = { connections: 9, calls: 9, burst: 6, callsPerSecond: 1 };
    const limits = new CallerLimits({ process: bounds, user: bounds, connections: 9 });
    const looks = Array.from({ length: 4 }, () => limits.look(7, 0));
    expect(looks.every((release) => release !== undefined)).toBe(true);
    expect([limits.look(7, 0), limits.look(8, 0) === undefined]).toEqual([undefined, false]);
    looks[0]?.();
    looks[0]?.();
    expect([limits.look(7, 0) === undefined, limits.look(7, 0)]).toEqual([false, undefined]);
    for (const release of looks) release?.();
    // The last token.
    expect([limits.look(7, 0) === undefined, limits.look(7, 0)]).toEqual([false, undefined]);
  });

  test("call() lets a burst pass and then a rate, per process and per user", () => {
    const limits = make();
    const calls = (caller: typeof ALICE, now: number) => {
      let passed = 0;
      for (let call = 0; call < 50; call++) {
        const release = limits.call(caller, now);
        if (release !== undefined) passed += 1;
        release?.();
      }
      return passed;
    };
    expect(calls(ALICE, 0)).toBe(10);
    expect(calls(OTHER, 0)).toBe(6);
    expect(calls(BOB, 0)).toBe(10);
    expect(calls(ALICE, 1000)).toBe(5);
    expect(calls(OTHER, 1000)).toBe(3);
    expect(calls(ALICE, 3_600_000)).toBe(10);
  });

  test("call() is not refilled by a clock that goes back, nor emptied", () => {
    const limits = make();
    for (let call = 0; call < 10; call++) limits.call(ALICE, 5000)?.();
    expect(limits.call(ALICE, 0)).toBeUndefined();
    expect(limits.call(ALICE, 400)).toBeDefined();
  });

  test("a caller that hangs up and comes again is the same caller, and is forgotten when it owes nothing", () => {
    const limits = make();
    let passed = 0;
    for (let round = 0; round < 50; round++) {
      const release = limits.connect(ALICE, 0);
      if (release !== undefined) passed += 1;
      release?.();
    }
    expect(passed).toBe(10);
    for (let pid = 100; pid < 3100; pid++) limits.connect({ pid, uid: pid, startTimeNs: 0n }, 10_000)?.();
    limits.connect(BOB, 20_000);
    expect(limits.size).toBeLessThan(10);
  });
});
