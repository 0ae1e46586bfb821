// Single revocations: none is taken back by being said again with a sooner end, whatever comes first, and none is large.

import { describe, expect, test } from "bun:test";
import { writeBody } from "../../src/federation/body.ts";
import type { FleetState } from "../../src/federation/fleet_state.ts";
import { type Statement, signStatement } from "../../src/federation/statement.ts";
import { authorityId, DOMAIN, makeFleet, NOW, outcomeOf, sayRevoked, take, voice } from "./fleet_fixture.ts";

const HOUR_MS = 3_600_000;
const SERIAL = { type: "serial", authority: authorityId("ada"), value: "41".repeat(20) } as const;
const fleet = makeFleet();
const revoked = (revision: number, expiresAt: number) => sayRevoked(voice("ada"), SERIAL, { revision, expiresAt });

function standing(state: FleetState): { revision: number; expiresAt: number }[] {
  return state.list("revocation").map(({ revision, expiresAt }) => ({ revision, expiresAt }));
}

/** What one comparison brings to both. */
function exchange(a: FleetState, b: FleetState): void {
  const { want, give } = b.compare(a.difference(b.digest()));
  b.applyAll(a.pick(want, 1 << 20), NOW);
  a.applyAll(b.pick(give, 1 << 20), NOW);
}

describe("a revocation of one serial number", () => {
  const long = revoked(1, NOW + 2 * HOUR_MS);
  const short = revoked(2, NOW + HOUR_MS);
  const ever = revoked(3, 0);

  test("apply() keeps the one with the later end, though its author said the other afterwards, in any order", () => {
    for (const order of [
      [long, short],
      [short, long],
    ]) {
      const state = fleet.state();
      for (const statement of order) state.apply(statement, NOW);
      expect(standing(state)).toEqual([{ revision: 1, expiresAt: NOW + 2 * HOUR_MS }]);
    }
    const state = fleet.state();
    for (const statement of [ever, revoked(4, NOW + HOUR_MS), long]) state.apply(statement, NOW);
    expect(standing(state)).toEqual([{ revision: 3, expiresAt: 0 }]);
  });

  test("apply() takes a later word of the same end in the place of the former", () => {
    const state = fleet.state();
    take(state, long);
    expect(outcomeOf(state, revoked(2, NOW + 2 * HOUR_MS))).toBe("accepted");
    expect(standing(state).map(({ revision }) => revision)).toEqual([2]);
  });

  test("compare() has two nodes agree on the one with the later end, whoever asks", () => {
    for (const isTurned of [false, true]) {
      const [a, b] = [fleet.state(), fleet.state()];
      take(a, long);
      take(b, short);
      if (isTurned) exchange(b, a);
      else exchange(a, b);
      expect(a.root()).toBe(b.root());
      expect(standing(a)).toEqual([{ revision: 1, expiresAt: NOW + 2 * HOUR_MS }]);
    }
  });

  const raw = (body: Uint8Array): Statement => {
    const name = `serial:${SERIAL.authority}:${SERIAL.value}`;
    const draft = { kind: "revocation", name, revision: 1, time: NOW, expiresAt: NOW + HOUR_MS, body } as const;
    return signStatement({ trustDomain: DOMAIN, ...draft }, voice("ada"));
  };

  test("apply() refuses one that lets something stand, or that is padded", () => {
    const keep = writeBody("revocation", { reason: "mine", keep: ["ab".repeat(16)] });
    const padded = Buffer.from(`{"reason":"mine","keep":[]${" ".repeat(2048)}}`);
    const longest = writeBody("revocation", { reason: "\u{1f511}".repeat(125), keep: [] });
    expect(outcomeOf(fleet.state(), raw(keep))).toBe("body_invalid");
    expect(outcomeOf(fleet.state(), raw(Uint8Array.from(padded)))).toBe("body_invalid");
    expect(outcomeOf(fleet.state(), raw(longest))).toBe("accepted");
  });
});
