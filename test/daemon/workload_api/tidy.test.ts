// When memory is given back: after many connections, and only when no more come.

import { expect, test } from "bun:test";
import { QUIET_MS, Tidy } from "../../../src/daemon/workload_api/tidy.ts";
import { ManualClock } from "../../manual_clock.ts";

test("run() collects once after many connections, when no more come, and never after few", async () => {
  const clock = new ManualClock();
  let collected = 0;
  const collect = () => {
    collected += 1;
  };
  const tidy = new Tidy({ clock, collect });
  const connect = (count: number) => {
    for (let done = 0; done < count; done++) tidy.connected();
  };
  const ended = new AbortController();
  const running = tidy.run(ended.signal);
  connect(100);
  for (let round = 0; round < 4; round++) await clock.advance(QUIET_MS);
  expect(collected).toBe(0);
  for (let round = 0; round < 4; round++) {
    connect(50);
    await clock.advance(QUIET_MS);
    expect(collected).toBe(0);
  }
  for (let round = 0; round < 4; round++) {
    await clock.advance(QUIET_MS);
    expect(collected).toBe(1);
  }
  ended.abort();
  await running;
});
