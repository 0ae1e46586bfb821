import { expect, test } from "bun:test";
import { Renewer } from "../../../src/daemon/fleet/renewer.ts";
import { createLog } from "../../../src/daemon/log.ts";
import { openStore } from "../../../src/store.ts";
import { ManualClock } from "../../manual_clock.ts";

const DAY = 86_400_000;

/** How often a node looks for an issuing node in a minute in which there is none. */
async function looksInAMinute(intermediate: {
  readonly endsIn: number;
  readonly isRevoked?: boolean;
}): Promise<number> {
  const clock = new ManualClock();
  const end = clock.now() + intermediate.endsIn;
  let looks = 0;
  const renewer = new Renewer({
    fleet: {
      self: { name: "ada", state: "active", isIssuer: false } as never,
      nodes() {
        looks += 1;
        return [];
      },
      ask: () => Promise.reject(new Error("there is nobody")),
      journal: undefined as never,
    },
    ...{ stateDir: "", store: openStore(":memory:"), clock, random: () => 0.5 },
    log: createLog({ level: "error", clock, write: () => undefined }),
    validity: () => ({ notBefore: end - 365 * DAY, notAfter: end }),
    isRootEnding: () => false,
    isRevoked: () => intermediate.isRevoked === true,
    sign: () => Promise.reject(new Error("it does not issue")),
    nameAuthority() {},
    onRenewed() {},
  });
  const stop = new AbortController();
  const running = renewer.run(stop.signal);
  await clock.advance(0);
  await clock.advance(61_000);
  stop.abort();
  await running;
  // Twice a time: for who issues, and for how many there are.
  return looks / 2;
}

test("Renewer.run() asks again within seconds while nobody takes what this node signs, and leaves time where the intermediate is still good", async () => {
  expect(await looksInAMinute({ endsIn: -DAY })).toBe(7);
  expect(await looksInAMinute({ endsIn: DAY * 300, isRevoked: true })).toBe(7);
  expect(await looksInAMinute({ endsIn: DAY })).toBe(1);
});
