// The open streams as one: who is asked inside a look at the store, who is told after it, and what a failure of the look changes.

import { beforeEach, describe, expect, test } from "bun:test";
import { createLog } from "../../../src/daemon/log.ts";
import type { Caller } from "../../../src/daemon/workload_api/caller.ts";
import type { Feed } from "../../../src/daemon/workload_api/feed.ts";
import type { Identified } from "../../../src/daemon/workload_api/identity.ts";
import { LiveStreams } from "../../../src/daemon/workload_api/live.ts";
import { CallRefusal } from "../../../src/daemon/workload_api/refusal.ts";
import type { Outbound } from "../../../src/daemon/workload_api/server.ts";
import { ManualClock } from "../../manual_clock.ts";

const IDENTIFIED = { assignment: {}, evidence: {} } as Identified;

let clock: ManualClock;
let isLooking: boolean;
let looks: number;
let isStuck: boolean;
/** What happened to whom, and whether inside of a look. */
let seen: string[];
let withdrawn: number[];
let refused: Set<number>;
/** Callers of whom nothing can be told at once. */
let slow: Set<number>;
let live: LiveStreams;

function note(what: string): void {
  seen.push(isLooking ? `${what} in a look` : what);
}

beforeEach(() => {
  clock = new ManualClock();
  [isLooking, isStuck, looks] = [false, false, 0];
  [seen, withdrawn] = [[], []];
  [refused, slow] = [new Set(), new Set()];
  const judge = ({ pid }: Caller): Identified => {
    note(`ask ${pid}`);
    if (refused.has(pid)) throw new CallRefusal("permissionDenied", "no rule");
    return IDENTIFIED;
  };
  live = new LiveStreams({
    clock,
    log: createLog({ level: "error", clock, write: () => note("log") }),
    ledger: { withdraw: ({ pid }) => void withdrawn.push(isLooking ? -1 : pid) },
    store: {
      look(work) {
        looks += 1;
        if (isStuck) throw new Error("disk I/O error");
        isLooking = true;
        try {
          return work();
        } finally {
          isLooking = false;
        }
      },
    },
    tryIdentify: (caller) => (slow.has(caller.pid) ? undefined : judge(caller)),
    identify: async (caller) => judge(caller),
  });
});

interface Told {
  readonly feed: Feed & { isThere: boolean };
  readonly stop: AbortController;
  ends: string[];
}

/** A stream of process `pid`, which has something to be told as long as its feed's message is not there. */
async function open(pid: number): Promise<Told> {
  const stop = new AbortController();
  const told: Told = {
    stop,
    ends: [],
    feed: {
      isThere: false,
      isCurrent() {
        note(`current ${pid}`);
        return this.isThere;
      },
      async next() {
        note(`next ${pid}`);
        this.isThere = true;
        return Uint8Array.of(pid);
      },
      renewAt: undefined,
      endsAt: undefined,
    },
  };
  const call = {
    caller: { pid } as Caller,
    metadata: () => [],
    signal: stop.signal,
    send: ([byte]: Uint8Array) => note(`send ${byte}`),
    end: ({ message }: CallRefusal) => void told.ends.push(message),
  };
  await live.open(call as Outbound, told.feed);
  seen = [];
  return told;
}

describe("LiveStreams", () => {
  test("refresh() asks all in one look, tells after it, and leaves alone who has all", async () => {
    const [first, second] = [await open(1), await open(2)];
    second.feed.isThere = false;
    await live.refresh();
    expect(looks).toBe(1);
    expect(seen).toEqual([
      "ask 1 in a look",
      "current 1 in a look",
      "ask 2 in a look",
      "current 2 in a look",
      "next 2",
      "send 2",
    ]);
    expect(first.ends).toEqual([]);
  });

  test("refresh() ends the stream of whom the rules refuse, and takes back what it has, after the look", async () => {
    const [first, second] = [await open(1), await open(2)];
    refused.add(1);
    await live.refresh();
    expect([first.ends, second.ends]).toEqual([["no rule"], []]);
    expect(withdrawn).toEqual([1]);
    expect(live.size).toBe(1);
  });

  test("refresh() waits outside of the look for whom it cannot judge at once", async () => {
    const first = await open(1);
    first.feed.isThere = false;
    slow.add(1);
    await live.refresh();
    expect(seen).toEqual(["ask 1", "next 1", "send 1"]);
    refused.add(1);
    await live.refresh();
    expect(first.ends).toEqual(["no rule"]);
  });

  test("refresh() judges each caller by itself when there can be no look", async () => {
    const [first, second] = [await open(1), await open(2)];
    first.feed.isThere = false;
    refused.add(2);
    isStuck = true;
    await live.refresh();
    expect(seen).toContain("send 1");
    expect(second.ends).toEqual(["no rule"]);
    expect(seen).toContain("log");
  });

  test("refresh() asks nothing of a stream that ended while others were told", async () => {
    const [first, second] = [await open(1), await open(2)];
    first.feed.isThere = false;
    first.stop.abort();
    second.feed.isThere = false;
    await live.refresh();
    expect(seen.filter((line) => line.includes("1"))).toEqual([]);
    expect(live.size).toBe(1);
  });
});
