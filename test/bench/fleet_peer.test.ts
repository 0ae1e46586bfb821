// What the benches of a fleet take for a node in the midst of its life.

import { expect, test } from "bun:test";
import { OwnVoice } from "../../src/daemon/fleet/own_voice.ts";
import { ManualClock } from "../manual_clock.ts";
import { inTheMidst, openState } from "./fleet_peer.ts";

const INTERVAL_MS = 30_000;
const NOW = Date.UTC(2026, 0, 1);

test("inTheMidst() has a node say nothing when it starts, and its first word at any time of its interval", async () => {
  const waits: number[] = [];
  for (let node = 0; node < 40; node++) {
    const clock = new ManualClock(NOW);
    const { random, isMember } = inTheMidst();
    const own = new OwnVoice({
      ...{ nodeName: "ada", clock, random, state: openState() },
      word: { addresses: () => [], endpoints: () => [], jwtKeys: () => [] },
      say: () => waits.push(clock.now() - NOW),
      onFault(thrown) {
        throw thrown;
      },
    });
    const stop = new AbortController();
    const done = own.run(stop.signal, { hasBroker: true, isMember });
    for (const said = waits.length; waits.length === said; ) await clock.advance(100);
    stop.abort();
    await done;
  }
  expect(Math.min(...waits)).toBeGreaterThan(0);
  expect(Math.min(...waits)).toBeLessThan(INTERVAL_MS / 4);
  expect(Math.max(...waits)).toBeGreaterThan((INTERVAL_MS * 3) / 4);
  expect(Math.max(...waits)).toBeLessThan(INTERVAL_MS * 1.01);
});
