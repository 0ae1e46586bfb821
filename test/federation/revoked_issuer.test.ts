// An issuing node that is revoked as a node issues no more: what it said until then stands, and nothing that it says afterwards.

import { describe, expect, test } from "bun:test";
import type { FleetState } from "../../src/federation/fleet_state.ts";
import { authorOf, keepOf, listNodes } from "../../src/federation/roster.ts";
import { type Statement, signStatement } from "../../src/federation/statement.ts";
import { DOMAIN, hex, makeFleet, NOW, outcomeOf, sayNode, sayRevoked, take, voice } from "./fleet_fixture.ts";

const IRIS = voice("iris");
const NODE_IRIS = { type: "node", value: "iris" } as const;
const fleet = makeFleet();

function revokeIris(state: FleetState, keep = keepOf(state, NODE_IRIS)): Statement {
  return sayRevoked(voice("olga"), NODE_IRIS, { keep });
}

const DELETED = signStatement(
  {
    ...{ trustDomain: DOMAIN, kind: "node", name: "iris", isDeleted: true },
    ...{ revision: 2, time: NOW, body: new Uint8Array() },
  },
  IRIS,
);
const LATER: readonly [what: string, word: Statement][] = [
  ["admits a node", sayNode(IRIS, "evil")],
  [
    "puts another key under a node's name",
    sayNode(IRIS, "ben", { key: hex(voice("evil").publicKey) }, { revision: 2 }),
  ],
  [
    "puts another key under its own name",
    sayNode(IRIS, "iris", { key: hex(voice("evil").publicKey) }, { revision: 2 }),
  ],
  ["deletes its own entry", DELETED],
  ["revokes a node", sayRevoked(IRIS, { type: "node", value: "ada" })],
  ["revokes an ID", sayRevoked(IRIS, { type: "id", value: "spiffe://example.org/db" })],
];

describe("a node that issues, revoked as a node", () => {
  for (const [what, word] of LATER)
    test(`apply() refuses it when it ${what} afterwards`, () => {
      const state = fleet.state();
      take(state, revokeIris(state));
      expect(outcomeOf(state, word)).toBe("author_revoked");
    });

  test("apply() lets fall what it had said and what the revocation does not name, whichever came first", () => {
    const [before, after] = [fleet.state(), fleet.state()];
    const revocation = revokeIris(before);
    take(before, revocation);
    for (const [, word] of LATER) before.apply(word, NOW);
    for (const [, word] of LATER.filter(([what]) => !what.includes("its own"))) take(after, word);
    take(after, revocation);
    expect(authorOf(after, voice("evil").publicKey)).toBeUndefined();
    expect(after.get("revocation", "id:spiffe://example.org/db")).toBeUndefined();
    expect(after.standing.revocationsOf("node:ada")).toEqual([]);
    expect(before.standing.revocationsOf("node:ada")).toEqual([]);
  });

  test("keepOf() names what it said for others, so that the nodes that it admitted stay", () => {
    const state = fleet.state();
    take(state, revokeIris(state));
    expect(listNodes(state).map(({ name, state: of, isIssuer }) => `${name} ${of} ${isIssuer}`)).toEqual([
      "ada active false",
      "ben active false",
      "iris revoked false",
      "ivan active true",
    ]);
  });

  test("keepOf() names nothing for a node that issues nothing", () => {
    expect(keepOf(fleet.state(), { type: "node", value: "ada" })).toEqual([]);
  });

  test("a node that admitted itself stays revoked when nothing is to stand", () => {
    const state = fleet.state();
    take(state, revokeIris(state, []));
    expect(authorOf(state, IRIS.publicKey)).toEqual({ standing: "revoked", node: "iris" });
    expect(outcomeOf(state, sayNode(IRIS, "evil"))).toBe("author_revoked");
  });
});
