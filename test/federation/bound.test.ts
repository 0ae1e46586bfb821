import { describe, expect, test } from "bun:test";
import { BOUNDS, type Bounds } from "../../src/federation/bound.ts";
import { FleetState } from "../../src/federation/fleet_state.ts";
import {
  ALL,
  authorityId,
  DOMAIN,
  hex,
  makeFleet,
  memoryStore,
  NOW,
  outcomeOf,
  say,
  sayDeleted,
  sayNode,
  sayResource,
  sayRevoked,
  service,
  take,
  voice,
} from "./fleet_fixture.ts";

const fleet = makeFleet();
const GRANTS = fleet.grants.length;
const WIDE = { statements: 1000, octets: 1_000_000 };
const ROOMY: Bounds = {
  state: WIDE,
  step: { statements: 1, octets: 100_000 },
  author: { issuer: WIDE, operator: WIDE, node: WIDE },
  revocation: WIDE,
  sets: 256,
};

function stateOf(over: Partial<Bounds>, store = memoryStore()): FleetState {
  const bounds = { ...ROOMY, ...over };
  const state = new FleetState({ trustDomain: DOMAIN, roots: [fleet.root.publicKey], store, bounds });
  if (store.rows.size === 0) for (const grant of fleet.grants) take(state, grant);
  return state;
}

const olga = (name: string, rest = {}) => sayResource(voice("olga"), service(name), rest);
const long = (name: string, rest = {}) => {
  const spec = { addresses: [{ address: "192.0.2.7", ports: Array.from({ length: 2000 }, (_, port) => port + 1) }] };
  return sayResource(voice("olga"), { ...(service(name) as object), spec }, rest);
};
const ofSerial = (value: string) => {
  const target = { type: "serial", authority: authorityId("ada"), value } as const;
  return sayRevoked(voice("ada"), target, { expiresAt: NOW + 3_600_000 });
};
const ofId = (by: string, path: string) => sayRevoked(voice(by), { type: "id", value: `spiffe://${DOMAIN}/${path}` });

describe("bounds of an author", () => {
  const author = { ...ROOMY.author, operator: { statements: 2, octets: 30_000 } };

  test("apply() takes so many statements of an operator, and then what takes the place of one", () => {
    const state = stateOf({ author });
    take(state, olga("a"));
    take(state, olga("b"));
    expect(outcomeOf(state, olga("c"))).toBe("author_full");
    take(state, olga("a", { revision: 2 }));
    take(state, sayDeleted(voice("olga"), "Service/b", { revision: 2 }));
    expect(outcomeOf(state, olga("c"))).toBe("author_full");
  });

  test("apply() takes so many octets of an operator, and what makes them fewer", () => {
    const operator = { statements: 1000, octets: 20_000 };
    const state = stateOf({ author: { ...author, operator } });
    take(state, long("a"));
    take(state, long("b"));
    expect(outcomeOf(state, long("c"))).toBe("author_full");
    take(state, olga("c"));
    expect(outcomeOf(state, long("c", { revision: 2 }))).toBe("author_full");
    take(state, sayDeleted(voice("olga"), "Service/a", { revision: 2 }));
    take(state, long("c", { revision: 3 }));
  });

  test("apply() takes revocations of an operator who has said all else that he may, up to a bound", () => {
    const state = stateOf({ author, revocation: { statements: 1, octets: 10_000 } });
    take(state, olga("a"));
    take(state, olga("b"));
    take(state, ofId("olga", "a"));
    expect(outcomeOf(state, ofId("olga", "b"))).toBe("author_full");
  });

  test("apply() takes so much of an issuing node and of a node, and of a root all", () => {
    // What `iris` says besides: four nodes.
    const state = stateOf({
      author: { ...author, issuer: { statements: 4, octets: 1e6 }, node: { statements: 1, octets: 1e6 } },
    });
    expect(outcomeOf(state, sayNode(voice("iris"), "cleo"))).toBe("author_full");
    take(state, sayNode(voice("ivan"), "cleo"));
    take(state, ofSerial("0a"));
    expect(outcomeOf(state, ofSerial("0b"))).toBe("author_full");
    for (const name of ["isa", "ina"])
      take(
        state,
        say(fleet.root, ["issuer", name], { key: hex(voice(name).publicKey), authority: undefined, idPrefixes: ALL }),
      );
  });
});

describe("bounds of a state", () => {
  const full = { state: { statements: GRANTS + 1, octets: 1e6 } };

  test("apply() takes revocations by each role though the state is full, and the root's word when theirs have filled it too", () => {
    const state = stateOf(full);
    take(state, olga("a"));
    expect(outcomeOf(state, olga("b"))).toBe("state_full");
    expect(outcomeOf(state, sayNode(voice("iris"), "cleo"))).toBe("state_full");
    take(state, ofSerial("0a"));
    expect(outcomeOf(state, ofSerial("0b"))).toBe("state_full");
    take(state, ofId("olga", "a"));
    expect(outcomeOf(state, ofId("olga", "b"))).toBe("state_full");
    take(state, ofId("iris", "a"));
    expect(outcomeOf(state, ofId("iris", "b"))).toBe("state_full");
    take(state, sayRevoked(fleet.root, { type: "operator", value: "otto" }));
    expect(outcomeOf(state, sayRevoked(fleet.root, { type: "node", value: "ben" }))).toBe("state_full");
  });

  test("apply() counts octets too, and a revocation that removes what an author said makes room", () => {
    const grants = fleet.grants.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const state = stateOf({ state: { statements: 1000, octets: grants + long("a").bytes.length + 100 } });
    take(state, long("a"));
    expect(outcomeOf(state, olga("b"))).toBe("state_full");
    take(state, sayRevoked(voice("iris"), { type: "operator", value: "olga" }));
    take(state, sayNode(voice("iris"), "cleo"));
  });

  test("FleetState loads all that stood, in whatever order it had come", () => {
    const store = memoryStore();
    const state = stateOf(full, store);
    take(state, olga("a"));
    take(state, ofSerial("0a"));
    take(state, ofId("olga", "a"));
    expect(stateOf(full, store).root()).toBe(state.root());
  });

  test("BOUNDS have room for 100,000 nodes of one issuing node, and for more than one operator can fill", () => {
    expect(BOUNDS.author.issuer.statements).toBeGreaterThan(100_000);
    expect(BOUNDS.state.statements).toBeGreaterThan(200_000 + 11_000);
    expect(BOUNDS.state.statements).toBeGreaterThan(3 * BOUNDS.author.operator.statements);
    expect(BOUNDS.state.octets).toBeGreaterThan(3 * BOUNDS.author.operator.octets);
    // A set may fill a body.
    expect(BOUNDS.author.node.octets).toBeGreaterThan(BOUNDS.sets * 64 * 1024);
  });
});
