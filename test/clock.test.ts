import { describe, expect, test } from "bun:test";
import { systemClock } from "../src/clock.ts";
import { ManualClock } from "./manual_clock.ts";

describe("systemClock", () => {
  test("sleep() resolves at once when there is nothing to wait for", async () => {
    await systemClock.sleep(0);
    await systemClock.sleep(-5);
  });

  test("sleep() rejects with the signal's reason when it is aborted, before or while it waits", async () => {
    const reason = new Error("stop");
    await expect(systemClock.sleep(60_000, AbortSignal.abort(reason))).rejects.toBe(reason);
    const control = new AbortController();
    const sleeping = systemClock.sleep(2 ** 40, control.signal);
    control.abort(reason);
    await expect(sleeping).rejects.toBe(reason);
  });
});

describe("ManualClock", () => {
  test("advance() wakes sleepers in the order of their time, each at its own time", async () => {
    const clock = new ManualClock(1000);
    const seen: string[] = [];
    void clock.sleep(20).then(() => seen.push(`b ${clock.now()}`));
    void clock.sleep(10).then(async () => {
      seen.push(`a ${clock.now()}`);
      await clock.sleep(15);
      seen.push(`c ${clock.now()}`);
    });
    await clock.advance(24);
    expect(seen).toEqual(["a 1010", "b 1020"]);
    await clock.advance(1);
    expect(seen).toEqual(["a 1010", "b 1020", "c 1025"]);
    expect(clock.waiting).toBe(0);
  });

  test("sleep() rejects and is forgotten when its signal is aborted", async () => {
    const clock = new ManualClock();
    const control = new AbortController();
    const sleeping = clock.sleep(10, control.signal);
    control.abort("enough");
    await expect(sleeping).rejects.toBe("enough");
    expect(clock.waiting).toBe(0);
  });
});
