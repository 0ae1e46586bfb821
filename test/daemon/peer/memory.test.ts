// What is remembered of accepted peers: over a restart, within its bound, and no longer than anybody could revoke it.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { type AcceptedPath, PeerMemory } from "../../../src/daemon/peer/memory.ts";
import { openStore, type Store } from "../../../src/store.ts";

const NOW = 1_700_000_000_000;

let store: Store;
let warned: string[];
beforeEach(() => {
  store = openStore(":memory:");
  warned = [];
});
afterEach(() => store.close());

const open = (max?: number) => {
  const say = (event: string) => void warned.push(event);
  return new PeerMemory(store, { debug: say, info: say, warn: say, error: say }, max);
};
const leavesOf = (memory: PeerMemory) => [...memory].map(([leaf]) => leaf);

function path(
  workload: string,
  over: Partial<AcceptedPath> & { authority?: string; issuer?: string } = {},
): AcceptedPath {
  const { authority = "a1", issuer = "51", ...rest } = over;
  const certificates = [
    { serial: "01", authority },
    { serial: issuer, authority: "r1" },
  ];
  return { spiffeId: `spiffe://edge.test/${workload}`, certificates, root: "00", notAfter: NOW + 1000, ...rest };
}

test("PeerMemory has after a restart what was put, and not what was deleted", () => {
  const memory = open();
  memory.put("l1", path("a"), NOW);
  memory.put("l2", path("b"), NOW);
  memory.put("l2", path("b", { root: "11" }), NOW);
  memory.delete(["l1", "unknown"]);
  expect(leavesOf(memory)).toEqual(["l2"]);
  const next = open();
  expect([...next]).toEqual([["l2", path("b", { root: "11" })]]);
  expect([next.has("spiffe://edge.test/a"), next.has("spiffe://edge.test/b")]).toEqual([false, true]);
});

test("put() takes the place of what the same holder had from the same signers and has ended, and of nothing else", () => {
  const memory = open();
  const ended = { notAfter: NOW };
  memory.put("old", path("a", ended), NOW - 1);
  memory.put("living", path("a"), NOW - 1);
  memory.put("other-node", path("a", { ...ended, authority: "a2" }), NOW - 1);
  memory.put("other-intermediate", path("a", { ...ended, issuer: "52" }), NOW - 1);
  memory.put("other-workload", path("b", ended), NOW - 1);
  memory.put("new", path("a"), NOW);
  const left = ["living", "other-node", "other-intermediate", "other-workload", "new"];
  expect(leavesOf(memory)).toEqual(left);
  expect(leavesOf(open())).toEqual(left);
});

test("put() lets the oldest go past its bound, in the state too; who is seen again is not the oldest", () => {
  const memory = open(2);
  for (const name of ["a", "b"]) memory.put(name, path(name), NOW);
  memory.put("a", path("a"), NOW);
  memory.put("c", path("c"), NOW);
  expect(leavesOf(memory)).toEqual(["a", "c"]);
  expect(memory.has("spiffe://edge.test/b")).toBe(false);
  expect(new Set(leavesOf(open()))).toEqual(new Set(["a", "c"]));
});

test("put() remembers in this daemon what the state cannot take, and says so", () => {
  const memory = open();
  store.prepare("DROP TABLE daemon_peer").run();
  memory.put("a", path("a"), NOW);
  expect(leavesOf(memory)).toEqual(["a"]);
  expect(warned).toEqual(["what a peer rests on could not be kept for the next start"]);
});
