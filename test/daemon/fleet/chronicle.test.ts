// What a person is shown of refused words: each fault of a key once, and nothing that a stranger could repeat without end.

import { beforeEach, expect, test } from "bun:test";
import { Chronicle } from "../../../src/daemon/fleet/chronicle.ts";
import { openFleetJournal } from "../../../src/daemon/fleet/event.ts";
import { createLog } from "../../../src/daemon/log.ts";
import { keyIdOf } from "../../../src/federation/curve.ts";
import { DOMAIN_BUNDLE, parseStatement, verifyStatement } from "../../../src/federation/statement.ts";
import { openStore } from "../../../src/store.ts";
import { NOW, sayResource, saySeen, service, voice } from "../../federation/fleet_fixture.ts";
import { ManualClock } from "../../manual_clock.ts";

const EVE = voice("eve");
const BOB = voice("bob");
const EVE_ID = keyIdOf(EVE.publicKey);
let chronicle: Chronicle;
let shown: () => string[];
let logged: string[];

beforeEach(() => {
  const clock = new ManualClock(NOW);
  const journal = openFleetJournal(openStore(":memory:"), clock);
  logged = [];
  const log = createLog({ level: "error", clock, write: (line) => void logged.push(line) });
  chronicle = new Chronicle(journal, log);
  shown = () => journal.events(1000).map(({ event, subject }) => `${event} ${subject}`);
});

const refuse = (statement: Parameters<Chronicle["refused"]>[0], code: string) =>
  chronicle.refused(statement, { from: "gate-1", code, reason: "it may not" });
const word = (signer: typeof EVE, name: string) => sayResource(signer, service(name));

test("refused() shows a fault of a key once, whatever the key says after it", () => {
  const first = word(EVE, "a");
  for (const statement of [first, first, word(EVE, "b"), word(EVE, "c")]) refuse(statement, "scope");
  expect(shown()).toEqual([`refused ${first.key}`]);
  expect(logged.length).toBe(1);
});

test("refused() shows another fault of the same key, and the same fault of another key", () => {
  const statements = [word(EVE, "a"), word(BOB, "a")] as const;
  for (const code of ["scope", "author_revoked", "scope"]) for (const statement of statements) refuse(statement, code);
  expect(shown().length).toBe(4);
});

test("refused() is silent about strangers, and about what a node says of itself", () => {
  refuse(word(EVE, "a"), "author_unknown");
  refuse(saySeen("eve"), "author_revoked");
  refuse({ ...word(EVE, "b"), kind: "endpoint" }, "author_revoked");
  expect([shown(), logged]).toEqual([[], []]);
});

test("refused() shows each word about the roots, also a stranger's, and each once", () => {
  const roots = (name: string) => ({ ...word(EVE, name), kind: "bundle" as const, name: DOMAIN_BUNDLE });
  const [one, two] = [roots("a"), roots("b")];
  for (const statement of [one, two, one]) refuse(statement, "author_unknown");
  expect(shown()).toEqual(["roots refused gate-1", "roots refused gate-1"]);
});

test("refused() keeps at most 256 faults in mind: who makes more of them is shown again, and nothing grows", () => {
  for (let i = 0; i < 257; i++) refuse(word(voice(`eve ${i}`), "a"), "scope");
  expect(shown().length).toBe(257);
  refuse(word(voice("eve 256"), "a"), "scope");
  expect(shown().length).toBe(257);
  refuse(word(voice("eve 0"), "a"), "scope");
  expect(shown().length).toBe(258);
});

test("refused() says so in the log when the journal cannot be written, and throws nothing", () => {
  const log = createLog({ level: "error", clock: new ManualClock(NOW), write: (line) => void logged.push(line) });
  const full = () => {
    throw new Error("disk is full");
  };
  new Chronicle({ record: full, events: () => [] }, log).refused(word(EVE, "a"), {
    from: "gate-1",
    code: "scope",
    reason: "it may not",
  });
  expect(logged.join()).toContain("the fleet's journal cannot be written");
});

const damaged = (signer: typeof EVE, name: string) => {
  const bytes = Uint8Array.from(word(signer, name).bytes);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  return parseStatement(bytes);
};

test("refused() accuses nobody of a word that he did not sign but tells of its sender, and his own is told after it", () => {
  refuse(damaged(EVE, "a"), "outside_groups");
  expect(shown()).toEqual(["forged gate-1"]);
  expect(logged.join()).not.toContain(EVE_ID);
  refuse(damaged(EVE, "a"), "outside_names");
  refuse(damaged(EVE, "b"), "forged");
  expect(shown()).toEqual(["forged gate-1"]);
  const own = word(EVE, "c");
  refuse(own, "outside_groups");
  expect(shown()).toEqual(["forged gate-1", `refused ${own.key}`]);
  expect(logged[1]).toContain(EVE_ID);
});

test("refused() tells of an unsigned word about the roots under its sender alone", () => {
  refuse({ ...damaged(EVE, "a"), kind: "bundle", name: DOMAIN_BUNDLE }, "root_unknown");
  expect(shown()).toEqual(["forged gate-1"]);
});

test("refused() verifies no more of a sender who has shown what he is, and goes on with others", () => {
  const journal = openFleetJournal(openStore(":memory:"), new ManualClock(NOW));
  let verified = 0;
  const verify = (statement: Parameters<typeof verifyStatement>[0]) => {
    verified += 1;
    return verifyStatement(statement);
  };
  const counting = new Chronicle(
    journal,
    createLog({ level: "error", clock: new ManualClock(NOW), write() {} }),
    verify,
  );
  const say = (statement: Parameters<Chronicle["refused"]>[0], from: string) =>
    counting.refused(statement, { from, code: "scope", reason: "it may not" });
  const forged = damaged(EVE, "a");
  for (let i = 0; i < 100; i++) say(forged, "gate-1");
  expect(verified).toBe(64);
  say(word(EVE, "b"), "gate-2");
  expect(journal.events(10).map(({ event, subject }) => `${event} ${subject}`)).toEqual([
    "forged gate-1",
    `refused ${word(EVE, "b").key}`,
  ]);
});

test("conflict() is shown once, counted each time, and of a node's word of itself counted alone", () => {
  const [winner, loser] = [word(EVE, "a"), word(BOB, "a")];
  for (let i = 0; i < 3; i++) chronicle.conflict(winner, loser);
  chronicle.conflict(saySeen("eve"), saySeen("eve", { revision: 2 }));
  expect(shown()).toEqual([`conflict ${winner.key}`]);
  expect(chronicle.conflicts).toBe(4);
});

test("conflict() shows so many of one author and no more, and another's all the same", () => {
  for (let i = 0; i < 100; i++) chronicle.conflict(word(BOB, `w${i}`), word(EVE, `w${i}`));
  chronicle.conflict(word(EVE, "a"), word(BOB, "a"));
  expect(shown().length).toBe(65);
});

test("conflict() does not throw when the journal cannot be written: what follows from the others must not wait for it", () => {
  const journal = {
    record: () => {
      throw new Error("database or disk is full");
    },
  };
  const log = createLog({ level: "error", clock: new ManualClock(NOW), write: (line) => void logged.push(line) });
  const broken = new Chronicle(journal as never, log);
  broken.conflict(word(EVE, "a"), word(BOB, "a"));
  expect(logged.join()).toContain("cannot be written");
});
