import { describe, expect, test } from "bun:test";
import { FleetState } from "../../src/federation/fleet_state.ts";
import { type IssuedPath, listRevocations, mayIssue, revocationOf } from "../../src/federation/roster.ts";
import { readSerialSet } from "../../src/federation/serial_set.ts";
import type { Statement, StatementDraft } from "../../src/federation/statement.ts";
import { tryParseSerialSetName, tryParseTarget } from "../../src/fleet.ts";
import type { SerialSet } from "../../src/serial_set.ts";
import {
  authorityId,
  DOMAIN,
  makeFleet,
  memoryStore,
  NOW,
  outcomeOf,
  SerialNumbers,
  sayNode,
  sayRevoked,
  saySet,
  take,
  voice,
} from "./fleet_fixture.ts";

const fleet = makeFleet();
const HOUR = 3_600_000;
const END = NOW + HOUR;
const SIZE = 400;
/** What ada's authority has signed; every fourth is revoked. */
const NUMBERS = new SerialNumbers(SIZE);

function makeSet(isRevoked: (index: number) => boolean = (index) => index % 4 === 0, end = END): SerialSet {
  return NUMBERS.set(isRevoked, { end });
}

function sayIt(
  author = "ada",
  over: Partial<StatementDraft> = {},
  { set = makeSet(), authority = authorityId("ada") } = {},
): Statement {
  return saySet(author === "root" ? fleet.root : voice(author), set, { authority, over });
}

function single(index: number, { author = "ada", expiresAt = END } = {}): Statement {
  const target = { type: "serial", authority: authorityId("ada"), value: NUMBERS.hex(index) } as const;
  return sayRevoked(voice(author), target, { expiresAt });
}

function path(index: number, name = "ada"): IssuedPath {
  return {
    spiffeId: `spiffe://${DOMAIN}/web`,
    certificates: [{ serial: NUMBERS.hex(index), authority: authorityId(name) }],
  };
}

describe("mayIssue() under a set of serial numbers", () => {
  test("refuses the revoked ones by its statement, and no other", () => {
    const state = fleet.state();
    const statement = sayIt();
    expect(mayIssue(state, path(0))).toMatchObject({ ok: true });
    take(state, statement);
    for (let index = 0; index < SIZE; index++) {
      const expected =
        index % 4 === 0 ? { ok: false, code: "serial_revoked", statement: statement.hash } : { ok: true };
      expect(mayIssue(state, path(index))).toMatchObject(expected);
    }
    const target = { type: "serial", authority: authorityId("ada"), value: NUMBERS.hex(4) } as const;
    expect(revocationOf(state, target)).toMatchObject({
      reason: "one of 100 serial numbers that ada has revoked",
      statement,
    });
    expect(revocationOf(state, { ...target, value: NUMBERS.hex(5) })).toBeUndefined();
    expect(listRevocations(state)).toMatchObject([
      { target: { type: "serials", authority: authorityId("ada") }, reason: "100 serial numbers that ada has revoked" },
    ]);
  });

  test("takes the same serial numbers of another authority, and of other lengths", () => {
    const state = fleet.state();
    take(state, sayIt());
    expect(mayIssue(state, path(0, "ben"))).toMatchObject({ ok: true });
    for (const serial of ["0a", NUMBERS.hex(0).slice(2)]) {
      const certificates = [{ serial, authority: authorityId("ada") }];
      expect(mayIssue(state, { spiffeId: `spiffe://${DOMAIN}/web`, certificates })).toMatchObject({ ok: true });
    }
  });

  test("goes on from the store after a restart, and forgets the set when it has ended", () => {
    const store = memoryStore();
    const state = fleet.state(store);
    take(state, sayIt());
    const again = new FleetState({ trustDomain: DOMAIN, roots: [fleet.root.publicKey], store });
    expect(mayIssue(again, path(0))).toMatchObject({ code: "serial_revoked" });
    expect(again.root()).toBe(state.root());
    expect(again.prune(END + HOUR + 1)).toMatchObject([{ type: "removed" }]);
    expect(mayIssue(again, path(0))).toMatchObject({ ok: true });
    expect(outcomeOf(again, sayIt(), END + HOUR + 1)).toBe("expired");
  });
});

describe("FleetState.apply() of a set of serial numbers", () => {
  test("refuses one that is of another's authority, of an issuing node, of an operator, of the root or of a stranger", () => {
    const state = fleet.state();
    for (const author of ["ben", "iris", "root"]) expect(outcomeOf(state, sayIt(author))).toBe("right_missing");
    // An operator signs nothing; nobody knows the other.
    for (const author of ["olga", "eve"]) expect(outcomeOf(state, sayIt(author))).toBe("author_unknown");
    // An issuing node signs for workloads too.
    expect(outcomeOf(state, sayIt("iris", {}, { authority: authorityId("iris") }))).toBe("accepted");
    take(state, sayRevoked(voice("iris"), { type: "node", value: "ada" }));
    expect(outcomeOf(state, sayIt())).toBe("author_revoked");
  });

  test("refuses one whose name, end, revision or octets do not fit one another", () => {
    const state = fleet.state();
    const other = sayIt("ada", {}, { set: makeSet((index) => index === 3) });
    const body = makeSet().write();
    for (const over of [
      { name: other.name },
      { body: other.body },
      { body: body.subarray(0, -1) },
      { body: Uint8Array.of(...body, 0) },
      { expiresAt: 0 },
      { expiresAt: END - 1 },
      { expiresAt: END + 1 },
      { revision: 2 },
    ])
      expect(outcomeOf(state, sayIt("ada", over))).toBe("body_invalid");
    expect(outcomeOf(state, sayIt("ada", { isDeleted: true, body: new Uint8Array() }))).toBe("revocation_permanent");
    expect(outcomeOf(state, sayIt("ada", { scope: "node:ben" }))).toBe("statement_invalid");
    expect(outcomeOf(state, sayIt("ada", { name: "serials:0a:0b" }))).toBe("statement_invalid");
    expect(outcomeOf(state, sayIt("ada", {}, { set: makeSet(undefined, 0) }))).toBe("body_invalid");
    expect(outcomeOf(state, sayIt())).toBe("accepted");
  });

  test("takes nothing back: a second set stands beside the first, whatever is in it", () => {
    const state = fleet.state();
    take(state, sayIt());
    take(state, sayIt("ada", { time: NOW + 1 }, { set: makeSet((index) => index === 3) }));
    expect(mayIssue(state, path(0))).toMatchObject({ code: "serial_revoked" });
    expect(mayIssue(state, path(3))).toMatchObject({ code: "serial_revoked" });
    // The same octets said again, later, are the same set with the same end.
    expect(outcomeOf(state, sayIt("ada", { time: NOW + 2 }))).toBe("accepted");
    expect(state.list("revocation")).toHaveLength(2);
    expect(mayIssue(state, path(0))).toMatchObject({ code: "serial_revoked" });
  });

  test("drops the single revocations that the set says, whatever came first, and comes to the same digest", () => {
    const singles = [0, 4, 8].map((index) => single(index));
    const others = [
      // Not in the set; in it, and said by another; in it, and longer than it.
      single(1),
      single(12, { author: "iris" }),
      single(16, { expiresAt: END + 1 }),
      single(20, { expiresAt: 0 }),
    ];
    const set = sayIt();
    const orders = [
      [...singles, ...others, set],
      [set, ...others, ...singles],
      [...others.slice(0, 2), singles[0], set, singles[1], ...others.slice(2), singles[2]],
    ];
    const roots = orders.map((order) => {
      const state = fleet.state();
      for (const statement of order) if (statement !== undefined) state.apply(statement, NOW);
      expect(
        state
          .list("revocation")
          .map(({ key }) => key)
          .sort(),
      ).toEqual([...others, set].map(({ key }) => key).sort());
      for (const index of [0, 1, 4, 8, 12, 16, 20]) expect(mayIssue(state, path(index)).ok).toBe(false);
      expect(outcomeOf(state, singles[0] as Statement)).toBe("duplicate");
      return state.root();
    });
    expect(new Set(roots).size).toBe(1);
  });

  test("drops them on the disk too, and gives them back when the disk fails", () => {
    const store = memoryStore();
    const state = fleet.state(store);
    take(state, single(0));
    const before = state.root();
    const failing = { ...store, isBroken: false };
    const broken = new FleetState({
      trustDomain: DOMAIN,
      roots: [fleet.root.publicKey],
      store: {
        ...failing,
        remove: () => {
          throw new Error("the disk is full");
        },
      },
    });
    expect(() => broken.apply(sayIt(), NOW)).toThrow("the disk is full");
    expect(broken.root()).toBe(before);
    expect(mayIssue(broken, path(4))).toMatchObject({ ok: true });
    const outcome = state.apply(sayIt(), NOW);
    expect(outcome).toMatchObject({
      changes: [{ type: "put" }, { type: "covered", statement: { name: single(0).name } }],
    });
    expect([...store.rows.keys()].filter((key) => key.startsWith("revocation/serial:"))).toEqual([]);
  });

  test("refuses more sets of one author than a node can need", () => {
    const state = fleet.state();
    const numbers = new SerialNumbers(1);
    const numbered = (longer: number) => numbers.set(() => true, { end: END, longer });
    for (let i = 0; i < 256; i++) take(state, sayIt("ada", {}, { set: numbered(i) }));
    expect(outcomeOf(state, sayIt("ada", {}, { set: numbered(256) }))).toBe("author_full");
    expect(outcomeOf(state, single(9))).toBe("accepted");
    expect(mayIssue(state, path(0))).toMatchObject({ code: "serial_revoked" });
  });

  test("forgets the sets of an authority that its node has no more", () => {
    const state = fleet.state();
    take(state, sayIt());
    take(state, sayNode(voice("iris"), "ada", { authorities: [authorityId("new")] }, { revision: 2 }));
    expect(state.list("revocation")).toEqual([]);
    expect(mayIssue(state, path(0))).toMatchObject({ code: "authority_unknown" });
  });

  test("brings a state that has the singles and one that has the set to the same by what compare() asks and gives", () => {
    const here = fleet.state();
    const there = fleet.state();
    for (const index of [0, 4, 8, 12]) take(here, single(index));
    take(there, sayIt());
    for (let round = 0; round < 2; round++) {
      const { want, give } = here.compare(there.difference(here.digest()));
      const [fetched, given] = [there.pick(want, 1e6), here.pick(give, 1e6)];
      here.applyAll(fetched, NOW);
      there.applyAll(given, NOW);
    }
    expect(here.root()).toBe(there.root());
    expect(here.list("revocation")).toHaveLength(1);
  });
});

describe("names of sets", () => {
  test("tryParseSerialSetName() reads what draftSerialSet() wrote; no person can name one", () => {
    const { name } = sayIt();
    expect(tryParseSerialSetName(name)).toMatchObject({ type: "serials", authority: authorityId("ada") });
    expect(tryParseTarget(name)).toBeUndefined();
    for (const wrong of [
      "",
      "serials:",
      `${name}0`,
      name.toUpperCase(),
      name.replace("serials", "serial"),
      `${name}\n`,
    ])
      expect(tryParseSerialSetName(wrong)).toBeUndefined();
    expect(readSerialSet(sayIt()).count).toBe(100);
    expect(() => readSerialSet({ ...sayIt(), name: "x" })).toThrow(
      expect.objectContaining({ code: "serial_set_malformed" }),
    );
  });
});
