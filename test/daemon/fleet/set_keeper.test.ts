import { beforeEach, describe, expect, test } from "bun:test";
import { Journal } from "../../../src/ca/journal.ts";
import { SerialSource } from "../../../src/ca/svid.ts";
import { type RevokedSetOptions, revokedSets } from "../../../src/ca.ts";
import { SetKeeper, SINGLES_MAX } from "../../../src/daemon/fleet/set_keeper.ts";
import { createLog } from "../../../src/daemon/log.ts";
import type { FleetState } from "../../../src/federation/fleet_state.ts";
import { findNode } from "../../../src/federation/roster.ts";
import { type Statement, signStatement } from "../../../src/federation/statement.ts";
import { openStore } from "../../../src/store.ts";
import { authorityId, makeFleet, NOW, sayRevoked, take, voice } from "../../federation/fleet_fixture.ts";
import { ManualClock } from "../../manual_clock.ts";

const HOUR = 3_600_000;
const ADA = voice("ada");
const authority = authorityId("ada");
const fleet = makeFleet();
let state: FleetState;
let asked: RevokedSetOptions[];
let serials: readonly string[];
let keeper: SetKeeper;

beforeEach(() => {
  const store = openStore(":memory:");
  const source = new SerialSource();
  const signedAt = NOW - 60_000;
  const about = { spiffeId: "spiffe://example.org/w", issuer: Buffer.from(authority, "hex"), context: "{}" };
  const entries = Array.from({ length: 1000 }, (_, i) => {
    const times = { notBefore: signedAt, notAfter: NOW + HOUR, signedAt };
    return { serial: source.next(signedAt + i), ...about, ...times };
  });
  new Journal(store).addSvids(entries);
  serials = entries.map(({ serial }) => Buffer.from(serial).toString("hex"));
  state = fleet.state();
  asked = [];
  const clock = new ManualClock(NOW);
  keeper = new SetKeeper({
    clock,
    log: createLog({ level: "error", clock, write: () => undefined }),
    fleet: {
      state,
      signer: ADA,
      get self() {
        return findNode(state, "ada");
      },
      say(draft) {
        const statement = signStatement(state.draft(draft, ""), ADA);
        take(state, statement);
        return statement;
      },
    },
    makeSets(options) {
      asked.push(options);
      return revokedSets(store, options);
    },
  });
});

function revoke(from: number, until: number, rest: { expiresAt?: number; author?: string } = {}): void {
  for (const value of serials.slice(from, until)) {
    const target = { type: "serial", authority, value } as const;
    take(state, sayRevoked(voice(rest.author ?? "ada"), target, { expiresAt: rest.expiresAt ?? NOW + HOUR }));
  }
}

const singles = () => state.list("revocation").filter(({ name }) => name.startsWith("serial:")).length;
const countOf = (said: readonly Statement[]) => said.map(({ name }) => name.split(":", 1)[0]);

describe("SetKeeper", () => {
  test("look() says a set when more than a few stand by themselves, and they go", () => {
    revoke(0, SINGLES_MAX);
    expect(keeper.look()).toEqual([]);
    expect(asked).toEqual([]);
    revoke(SINGLES_MAX, SINGLES_MAX + 1);
    expect(countOf(keeper.look())).toEqual(["serials"]);
    expect(singles()).toBe(0);
    expect(keeper.look()).toEqual([]);
  });

  test("look() waits for a quarter of what is in sets, so that many revocations are not many sets", () => {
    revoke(0, 400);
    keeper.look();
    revoke(400, 500);
    expect(keeper.look()).toEqual([]);
    revoke(500, 501);
    expect(countOf(keeper.look())).toEqual(["serials"]);
    expect(singles()).toBe(0);
    expect(state.standing.setsOf([authority]).map(({ set }) => set.count)).toEqual([400, 101]);
  });

  test("look() leaves alone what others said, what does not end, what has ended and what the journal does not know", () => {
    revoke(0, 80, { author: "iris" });
    revoke(80, 160, { expiresAt: 0 });
    revoke(160, 240, { expiresAt: NOW - 1 });
    expect(keeper.look()).toEqual([]);
    for (let i = 0; i < 80; i++) {
      const target = { type: "serial", authority, value: `7f${i.toString(16).padStart(38, "0")}` } as const;
      take(state, sayRevoked(ADA, target, { expiresAt: NOW + HOUR }));
    }
    expect(keeper.look()).toEqual([]);
    expect(asked).toHaveLength(1);
    expect(singles()).toBe(320);
  });

  test("look() says nothing for a node that is revoked", () => {
    revoke(0, 100);
    take(state, sayRevoked(voice("iris"), { type: "node", value: "ada" }));
    expect(keeper.look()).toEqual([]);
  });
});
