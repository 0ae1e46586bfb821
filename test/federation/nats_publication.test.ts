import { expect, test } from "bun:test";
import { RefusedPublications } from "../../src/federation/nats_publication.ts";
import type { Refusal } from "../../src/federation/transport.ts";
import { ManualClock } from "../manual_clock.ts";

const MINUTE = 60_000;

function open() {
  const clock = new ManualClock();
  const publications = new RefusedPublications(clock);
  const told: string[] = [];
  publications.onRefusal(({ verb, subject, isRefused }: Refusal) => void told.push(`${verb} ${subject} ${isRefused}`));
  return { clock, publications, told };
}

const answered = async () => undefined;

test("published() ends what the broker refuses no more, and nothing that it refuses again before its answer", async () => {
  const { publications, told } = open();
  publications.refused("gossip.a");
  publications.refused("gossip.a");
  await publications.published("gossip.a", async () => publications.refused("gossip.a"));
  expect([publications.subjects, told]).toEqual([["gossip.a"], ["publish gossip.a true"]]);
  await publications.published("gossip.b", answered);
  await publications.published("gossip.a", answered);
  expect([publications.subjects, told.at(-1)]).toEqual([[], "publish gossip.a false"]);
});

test("published() leaves a refusal standing when the connection ends before the broker has answered", async () => {
  const { publications } = open();
  publications.refused("gossip.a");
  const ended = () => Promise.reject(new Error("CLOSED"));
  await expect(publications.published("gossip.a", ended)).rejects.toThrow("CLOSED");
  expect(publications.subjects).toEqual(["gossip.a"]);
});

test("refused() keeps sixteen subjects, and none of the broker's own", () => {
  const { publications, told } = open();
  for (let i = 0; i < 40; i++) publications.refused(`ask.node-${i}`);
  for (const subject of ["$JS.API.STREAM.INFO.KV_x", "_INBOX_a.b", "ask.node-3"]) publications.refused(subject);
  expect([publications.subjects.length, told.length]).toEqual([16, 16]);
});

test("subjects forgets what was not refused for ten minutes: a node that has left is asked nothing more", async () => {
  const { clock, publications, told } = open();
  for (let i = 0; i < 16; i++) publications.refused(`ask.gone-${i}`);
  await clock.advance(9 * MINUTE);
  publications.refused("ask.gone-0");
  await clock.advance(MINUTE);
  expect([publications.subjects, told.length]).toEqual([["ask.gone-0"], 16]);
  publications.refused("ask.other");
  expect([publications.subjects, told.at(-1)]).toEqual([["ask.gone-0", "ask.other"], "publish ask.other true"]);
  await clock.advance(10 * MINUTE);
  expect(publications.subjects).toEqual([]);
  // Nobody has taken anything there.
  expect(told.filter((each) => each.endsWith("false"))).toEqual([]);
  publications.refused("ask.gone-0");
  expect(told.at(-1)).toBe("publish ask.gone-0 true");
});
