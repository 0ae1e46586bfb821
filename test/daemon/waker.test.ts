import { expect, test } from "bun:test";
import { Waker } from "../../src/daemon/waker.ts";
import { ManualClock } from "../manual_clock.ts";

/** A sleep of a minute, and whether it is over. */
function fallAsleep(waker: Waker, { signal = new AbortController().signal, settleMs = 0 } = {}) {
  const state = { isOver: false };
  waker.sleep(60_000, signal, settleMs).then(() => {
    state.isOver = true;
  });
  return state;
}

test("Waker.sleep() lasts as long as was asked when nobody wakes it", async () => {
  const clock = new ManualClock();
  const sleep = fallAsleep(new Waker(clock));
  await clock.advance(59_999);
  expect(sleep.isOver).toBe(false);
  await clock.advance(1);
  expect(sleep.isOver).toBe(true);
});

test("Waker.wake() ends one sleep, under way or not begun, and not the one after it", async () => {
  const clock = new ManualClock();
  const waker = new Waker(clock);
  const first = fallAsleep(waker);
  waker.wake();
  await clock.advance(0);
  expect(first.isOver).toBe(true);
  waker.wake();
  await waker.sleep(60_000, new AbortController().signal);
  const third = fallAsleep(waker);
  await clock.advance(1000);
  expect(third.isOver).toBe(false);
});

test("Waker.sleep() takes the reasons that come while it settles as one", async () => {
  const clock = new ManualClock();
  const waker = new Waker(clock);
  const first = fallAsleep(waker, { settleMs: 500 });
  waker.wake();
  await clock.advance(0);
  await clock.advance(499);
  waker.wake();
  expect(first.isOver).toBe(false);
  await clock.advance(1);
  expect(first.isOver).toBe(true);
  const second = fallAsleep(waker, { settleMs: 500 });
  await clock.advance(1000);
  expect(second.isOver).toBe(false);
});

test("Waker.sleep() ends at the signal, also while it settles", async () => {
  const clock = new ManualClock();
  const waker = new Waker(clock);
  const stop = new AbortController();
  const sleep = fallAsleep(waker, { signal: stop.signal, settleMs: 500 });
  waker.wake();
  await clock.advance(1);
  expect(sleep.isOver).toBe(false);
  stop.abort();
  await clock.advance(0);
  expect(sleep.isOver).toBe(true);
  await waker.sleep(60_000, stop.signal);
});
