import { describe, expect, test } from "bun:test";
import { type Line, Subscriptions } from "../../src/federation/nats_subscription.ts";
import type { Refusal } from "../../src/federation/transport.ts";
import { ManualClock } from "../manual_clock.ts";

/** A connection to a server that has its own mind of who may listen where. */
class FakeLine implements Line<string> {
  readonly tried: string[] = [];
  readonly live = new Map<string, (error: Error | null, message: string) => void>();
  isOpen = true;
  allows: (subject: string) => boolean;

  constructor(allows: (subject: string) => boolean) {
    this.allows = allows;
  }

  subscribe(subject: string, { callback }: Parameters<Line<string>["subscribe"]>[1]) {
    this.tried.push(subject);
    if (this.allows(subject)) this.live.set(subject, callback);
    else queueMicrotask(() => callback(new Error("Permissions Violation"), ""));
    return { unsubscribe: () => void this.live.delete(subject) };
  }

  async flush(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
  }

  isClosed(): boolean {
    return !this.isOpen;
  }
}

function open() {
  const clock = new ManualClock();
  const subscriptions = new Subscriptions<string>({ clock, random: () => 0.5 });
  const heard: string[] = [];
  const told: Refusal[] = [];
  subscriptions.onRefusal((refusal) => void told.push(refusal));
  const add = (subject: string) => subscriptions.add({ subject, handler: (message) => void heard.push(message) });
  const settle = () => new Promise<void>((resolve) => setTimeout(resolve, 1));
  return { clock, subscriptions, heard, told, add, settle };
}

describe("Subscriptions", () => {
  test("brings what stands to each connection, and hears each message once", async () => {
    const { subscriptions, heard, told, add } = open();
    add("a");
    const [first, second] = [new FakeLine(() => true), new FakeLine(() => true)];
    subscriptions.follow(first);
    subscriptions.follow(undefined);
    const other = add("b");
    subscriptions.follow(second);
    other.close();
    second.live.get("a")?.(null, "hello");
    expect([first.tried, second.tried, [...second.live.keys()], heard, told]).toEqual([
      ["a"],
      ["a", "b"],
      ["a"],
      ["hello"],
      [],
    ]);
  });

  test("tries again what is refused, each time later up to a minute, and says when it begins and ends", async () => {
    const { clock, subscriptions, heard, told, add, settle } = open();
    const line = new FakeLine((subject) => subject !== "join");
    subscriptions.follow(line);
    add("gossip");
    add("join");
    await settle();
    expect(subscriptions.refused).toEqual(["join"]);
    const waits: number[] = [];
    for (let tries = 2; tries < 11; tries += 1) {
      const began = clock.now();
      for (const count = line.tried.length; line.tried.length === count; await settle()) await clock.advance(500);
      waits.push((clock.now() - began) / 1000);
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
    expect(told).toEqual([{ verb: "listen", subject: "join", isRefused: true }]);
    line.allows = () => true;
    await clock.advance(60_000);
    await settle();
    line.live.get("join")?.(null, "a machine");
    expect([subscriptions.refused, heard]).toEqual([[], ["a machine"]]);
    expect(told.at(-1)).toEqual({ verb: "listen", subject: "join", isRefused: false });
    expect(line.tried.filter((subject) => subject === "gossip")).toHaveLength(1);
  });

  test("notices what is refused later, and waits no longer for a connection that ended or a subscription that was closed", async () => {
    const { clock, subscriptions, told, add, settle } = open();
    const line = new FakeLine(() => true);
    subscriptions.follow(line);
    const [a, b] = [add("a"), add("b")];
    for (const subject of ["a", "b"]) line.live.get(subject)?.(new Error("Permissions Violation"), "");
    expect(subscriptions.refused).toEqual(["a", "b"]);
    b.close();
    expect(subscriptions.refused).toEqual(["a"]);
    const next = new FakeLine(() => true);
    subscriptions.follow(next);
    await settle();
    await clock.advance(120_000);
    await settle();
    expect([line.tried, next.tried, subscriptions.refused]).toEqual([["a", "b"], ["a"], []]);
    expect(told.map(({ subject, isRefused }) => `${subject} ${isRefused}`)).toEqual(["a true", "b true", "a false"]);
    a.close();
  });

  test("add() refuses more subscriptions than one node can need", () => {
    const { add } = open();
    for (let i = 0; i < 256; i += 1) add(`s.${i}`);
    expect(() => add("one too many")).toThrow(RangeError);
  });
});
