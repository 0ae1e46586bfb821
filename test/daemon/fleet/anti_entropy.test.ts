// Two nodes that compare: what is missing crosses, and what only tells that a node is there costs them nothing as long as all else is the same.

import { beforeEach, expect, test } from "bun:test";
import { AntiEntropy, ROUND_EVERY_MS } from "../../../src/daemon/fleet/anti_entropy.ts";
import type { Reply } from "../../../src/daemon/fleet/wire.ts";
import { HEADS_MAX, statementId } from "../../../src/federation/digest.ts";
import { BATCH_MAX, type FleetState } from "../../../src/federation/fleet_state.ts";
import type { Statement } from "../../../src/federation/statement.ts";
import {
  makeFleet,
  NOW,
  sayResource,
  sayRevoked,
  saySeen,
  service,
  take,
  voice,
  workload,
} from "../../federation/fleet_fixture.ts";
import { ManualClock } from "../../manual_clock.ts";
import { random } from "../../random.ts";

const fleet = makeFleet();
let clock: ManualClock;
let ada: { readonly state: FleetState; readonly rounds: AntiEntropy };
let ben: typeof ada;
/** Types of the questions that ada asked. */
let asked: string[];
/** What else happens when ben has answered a question. */
let duringQuestion: (type: string) => void;
/** What both refuse when it comes from the other. */
let isRefused: (statement: Statement) => boolean;

beforeEach(() => {
  clock = new ManualClock(NOW);
  asked = [];
  duringQuestion = () => undefined;
  isRefused = () => false;
  ben = node("ada", () => ada);
  ada = node("ben", () => ben);
});

function node(peer: string, other: () => typeof ada): typeof ada {
  const state = fleet.state();
  const ask = async (_: string, question: Reply) => {
    if (peer === "ben") asked.push(question.type);
    const reply = other().rounds.answer({ node: "", time: NOW, ...question });
    if (reply === undefined) throw new Error(`no answer to ${question.type}`);
    duringQuestion(question.type);
    return { node: peer, time: NOW, ...reply };
  };
  const quiet = { error() {}, warn() {}, info() {}, debug() {} };
  const rounds = new AntiEntropy({
    ...{ state, wire: { ask }, clock, log: quiet, random: random(7), peers: () => [peer] },
    take: (statements) =>
      state
        .applyAll(
          statements.filter((one) => !isRefused(one)),
          NOW,
        )
        .filter(({ outcome }) => outcome.outcome === "accepted").length,
  });
  return { state, rounds };
}

const digests = () => asked.filter((type) => type === "digest").length;

/** Rounds of ada's, before each of which ben says something anew. */
async function goOn(rounds: number, before: (round: number) => void): Promise<void> {
  const stop = new AbortController();
  const done = ada.rounds.run(stop.signal);
  const { counters } = ada.rounds;
  const begun = counters.rounds;
  for (let round = 1; round <= rounds; round++) {
    before(round);
    while (counters.rounds - begun < round) await clock.advance(ROUND_EVERY_MS / 20);
  }
  stop.abort();
  await done;
}

const seen = (round: number) => take(ben.state, saySeen("ben", { revision: round }));

test("run() passes a presence over that is on its way, but for one round in six or so", async () => {
  await goOn(300, seen);
  expect(digests()).toBeGreaterThan(25);
  expect(digests()).toBeLessThan(80);
  expect(asked.filter((type) => type.endsWith("root")).length).toBeGreaterThan(300);
});

test("run() finds whatever lasts in the next round, and the presences with it", async () => {
  await goOn(40, (round) => {
    expect(ada.state.lastingRoot()).toBe(ben.state.lastingRoot());
    take(ben.state, sayResource(voice("olga"), service(`s${round}`)));
    seen(round);
  });
  expect(ada.state.root()).toBe(ben.state.root());
  expect(digests()).toBe(40);
});

test("run() compares presences after soon(), once", async () => {
  for (let reason = 1; reason <= 6; reason++) {
    asked = [];
    seen(2 * reason);
    ada.rounds.soon();
    await goOn(1, () => undefined);
    expect(ada.state.root()).toBe(ben.state.root());
    expect(asked).toEqual(["root", "digest", "want", "lasting_root"]);
  }
});

test("round() ends by what lasts when a presence sets out meanwhile", async () => {
  seen(1);
  duringQuestion = (type) => {
    if (type === "want") seen(2);
  };
  await ada.rounds.round(["ben"]);
  expect(asked).toEqual(["root", "digest", "want", "lasting_root"]);
  expect(ada.state.lastingRoot()).toBe(ben.state.lastingRoot());
  expect(ada.state.root()).not.toBe(ben.state.root());
  expect(ada.rounds.agreedAt).toBe(NOW);
});

test("round() makes two nodes the same, both ways", async () => {
  for (const [of, name] of [
    [ada, "a"],
    [ben, "b"],
  ] as const)
    take(of.state, sayResource(voice("olga"), service(name)));
  take(ben.state, saySeen("ben"));
  expect(await ada.rounds.round(["ben"])).toEqual({ node: "ben", taken: 2, given: 1 });
  expect(ada.state.root()).toBe(ben.state.root());
  expect(await ada.rounds.round(["ben"])).toEqual({ node: "ben", taken: 0, given: 0 });
});

test("round() tells the other what it refuses once, and what comes after it too", async () => {
  isRefused = ({ name }) => name.startsWith("Service/");
  for (let n = 0; n < BATCH_MAX + 5; n++) take(ada.state, sayResource(voice("olga"), service(`s${n}`)));
  take(ada.state, sayResource(voice("olga"), workload("w", "w")));
  await ada.rounds.round(["ben"]);
  expect(ben.state.get("resource", "WorkloadIdentity/w")).toBeDefined();
  expect(digests()).toBe(3);
});

/** Names of services whose statements are all in the first bucket. */
function crowdedNames(count: number): string[] {
  const names: string[] = [];
  for (let n = 0; names.length < count; n++)
    if (statementId(`resource/Service/s${n}`).startsWith("00")) names.push(`s${n}`);
  return names;
}

test("run() brings what was missed though an operator chose more names for one bucket than an answer holds", async () => {
  for (const [i, name] of crowdedNames(HEADS_MAX + 40).entries()) {
    const said = sayResource(voice("olga"), service(name));
    if (i % 400 !== 1) take(ada.state, said);
    if (i % 400 !== 2) take(ben.state, said);
  }
  take(ben.state, sayRevoked(voice("iris"), { type: "id", value: "spiffe://example.org/thief" }));
  take(ben.state, sayResource(voice("olga"), service("missed")));
  await ada.rounds.round(["ben"]);
  expect(ada.state.list("revocation").length).toBe(1);
  expect(ada.state.get("resource", "Service/missed")).toBeDefined();
  await goOn(10, () => undefined);
  expect(ada.state.root()).toBe(ben.state.root());
}, 30_000);

test("answer() takes two roots for different ones unless they are of the same kind", () => {
  const payload = Uint8Array.from(Buffer.from(ada.state.root(), "hex"));
  const typeOf = (type: string) => ben.rounds.answer({ node: "ada", time: NOW, type, payload })?.type;
  expect([typeOf("root"), typeOf("lasting_root"), typeOf("first_root")]).toEqual(["same", "other", undefined]);
});
