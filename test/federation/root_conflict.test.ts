// What roots say of one another without knowing what the others said: every node comes to the same, whatever it heard first, and no end is lost.
import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Signer } from "../../src/federation/curve.ts";
import { FleetState } from "../../src/federation/fleet_state.ts";
import type { Statement } from "../../src/federation/statement.ts";
import { draw, pick, random as seeded } from "../random.ts";
import { DOMAIN, hex, makeRoot, memoryStore, NOW, outcomeOf, say, take, voice } from "./fleet_fixture.ts";
import { RootFixture, type Told } from "./root_fixture.ts";

// A busy machine makes and verifies signatures slowly.
setDefaultTimeout(60_000);

const NAMES = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh"] as const;
const roots = Object.fromEntries(NAMES.map((name) => [name, makeRoot(name)])) as Record<(typeof NAMES)[number], Signer>;
const { first, second, third, fourth, fifth } = roots;
let made: RootFixture;
/** Three roots that all nodes have heard of. */
let came: Statement;

beforeAll(async () => {
  made = await RootFixture.make(roots);
  came = record(undefined, first, [
    [first, "trusted"],
    [second, "trusted"],
    [third, "trusted"],
  ]);
});

const record: RootFixture["record"] = (...about) => made.record(...about);
const newState = (store = memoryStore()) => new FleetState({ trustDomain: DOMAIN, roots: [first.publicKey], store });

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((item, i) => permutations(items.toSpliced(i, 1)).map((rest) => [item, ...rest]));
}

/** Each root's state by its name. */
function statesOf(state: FleetState): Readonly<Record<string, string>> {
  const named = new Map(NAMES.map((name) => [Buffer.from(made.certificateOf(roots[name])).toString("base64"), name]));
  return Object.fromEntries((state.roots ?? []).map((entry) => [named.get(entry.certificate), entry.state]));
}

/** Every order of arrival, each with what nodes give one another afterwards; the one state that all come to. */
function inEveryOrder(...said: readonly Statement[]): FleetState {
  const states = permutations(said).map((order) => {
    const state = newState();
    take(state, came);
    for (const statement of order) state.apply(statement, NOW);
    return state;
  });
  // One that was refused for what stood then is offered again by whoever holds it.
  for (const from of states)
    for (const to of states) if (to.root() !== from.root()) to.applyAll(from.list("bundle"), NOW);
  const [state] = states as [FleetState];
  for (const other of states) {
    expect(other.root()).toBe(state.root());
    expect(statesOf(other)).toEqual(statesOf(state));
  }
  return state;
}

describe("records that were said without knowing of one another", () => {
  test("count together, though one key signed both with one revision", () => {
    const state = inEveryOrder(
      record(came, first, [[fourth, "trusted"]]),
      record(came, first, [
        [third, "revoked"],
        [fifth, "trusted"],
      ]),
    );
    expect(statesOf(state)).toEqual({
      ...{ first: "trusted", second: "trusted", third: "revoked", fourth: "trusted", fifth: "trusted" },
    });
    for (const root of [fourth, fifth])
      take(state, say(root, ["issuer", "nora"], grant("nora"), { revision: root === fourth ? 1 : 2 }));
    expect(state.rootRecords.length).toBe(2);
    // The next one says both, so that it alone stands.
    take(state, made.recordOf(state.roots, first, [[second, "retired"]], 9));
    expect(state.rootRecords.length).toBe(1);
  });

  test("lose no end of a root: what one ends stays ended beside another that is later", () => {
    const ends = record(came, second, [[third, "revoked"]]);
    const later = made.recordOf(
      undefined,
      first,
      [
        [first, "trusted"],
        [third, "trusted"],
        [fourth, "trusted"],
      ],
      7,
    );
    const state = inEveryOrder(ends, later);
    expect(statesOf(state)).toMatchObject({ third: "revoked", fourth: "trusted" });
    expect(outcomeOf(state, say(third, ["issuer", "nora"], grant("nora")))).toBe("root_unknown");
  });

  test("end a root at the hands of two others, and of its words stands what each let stand, or both of one that was revoked", () => {
    const words = ["aa", "bb", "cc"].map((two) => two.repeat(16)) as [string, string, string];
    for (const [end, left] of [
      ["retired", words],
      ["revoked", [words[1]]],
    ] as const) {
      const state = inEveryOrder(
        record(came, second, [[first, end, [words[0], words[1]]]]),
        record(came, third, [[first, end, [words[1], words[2]]]]),
      );
      expect([...(state.roots?.[0]?.keep ?? [])].sort()).toEqual([...left]);
      expect(statesOf(state)).toEqual({ first: end, second: "trusted", third: "trusted" });
    }
  });

  test("fall with their author, when it was ended by one who did not know of them", () => {
    const state = inEveryOrder(
      record(came, first, [[second, "revoked"]]),
      record(came, second, [
        [fourth, "trusted"],
        [third, "retired"],
      ]),
    );
    expect(statesOf(state)).toEqual({ first: "trusted", second: "revoked", third: "trusted" });
    const held = newState();
    take(held, came);
    take(held, record(came, second, [[fourth, "trusted"]]));
    const outcome = held.apply(record(came, first, [[second, "revoked"]]), NOW);
    expect(outcome.outcome === "accepted" ? outcome.changes : []).toContainEqual(
      expect.objectContaining({ type: "removed", reason: expect.stringContaining("may speak no more") }),
    );
  });

  test("of a root that a stolen one brought in fall with it", () => {
    const child = record(came, first, [[fourth, "trusted"]]);
    const state = inEveryOrder(
      record(came, second, [[first, "revoked"]]),
      child,
      record(child, fourth, [[fifth, "trusted"]]),
    );
    expect(statesOf(state)).toEqual({ first: "revoked", second: "trusted", third: "trusted" });
  });

  test("that end one another stand where each came first, and the other is refused with its reason", () => {
    const [one, other] = [record(came, first, [[second, "revoked"]]), record(came, second, [[first, "revoked"]])];
    for (const [held, late] of [
      [one, other],
      [other, one],
    ] as const) {
      const state = newState();
      take(state, came);
      take(state, held);
      expect(outcomeOf(state, late)).toBe("root_retired");
    }
  });

  test("are four of one root at most, and one that says what another says takes its place", () => {
    const state = newState();
    take(state, came);
    for (const root of [fourth, fifth, roots.sixth, roots.seventh])
      take(state, record(came, first, [[root, "trusted"]]));
    expect(outcomeOf(state, record(came, first, [[third, "retired"]]))).toBe("author_full");
    expect(outcomeOf(state, record(came, second, [[third, "retired"]]))).toBe("accepted");
    take(state, made.recordOf(state.roots, first, [[third, "revoked"]], 9));
    expect(state.rootRecords.length).toBe(2);
  });

  test("are read from the store in whatever order its rows come", () => {
    const rows: Uint8Array[] = [];
    const state = inEveryOrder(
      record(came, second, [
        [first, "retired"],
        [fourth, "trusted"],
      ]),
      record(came, third, [
        [first, "retired"],
        [fifth, "trusted"],
      ]),
    );
    rows.push(...state.list("bundle").map(({ bytes }) => bytes));
    expect(rows.length).toBe(2);
    for (const order of permutations(rows)) {
      const store = { ...memoryStore(), load: () => order };
      expect(newState(store).root()).toBe(state.root());
    }
  });
});

const grant = (name: string) => ({
  ...{ key: hex(voice(name).publicKey), authority: undefined, idPrefixes: [`spiffe://${DOMAIN}/`] },
});

for (const seed of [1, 2, 3, 4, 5, 6]) {
  test(`three holders of root keys that hear little of one another come to the same roots, seed ${seed}`, () => {
    const random = seeded(seed);
    const holders = [first, second, third].map((key) => ({ key, state: newState() }));
    for (const { state } of holders) take(state, came);
    const others = [fourth, fifth, roots.sixth, roots.seventh];
    const ended = new Set<Signer>();
    for (let step = 0; step < 24; step++) {
      const { key, state } = pick(random, holders);
      const root = pick(random, others);
      const told: Told =
        draw(random, 3) > 0 ? [root, "trusted"] : [root, pick(random, ["retired", "revoked"] as const)];
      try {
        take(state, made.recordOf(state.roots, key, [told], state.nextRevision("bundle", "domain")));
        if (told[1] !== "trusted") ended.add(root);
      } catch (thrown) {
        expect(thrown).toEqual(new TypeError("it says nothing new"));
      }
      const [from, to] = [pick(random, holders), pick(random, holders)];
      if (draw(random, 3) === 0) to.state.applyAll(from.state.list("bundle"), NOW);
    }
    for (let round = 0; round < 3; round++)
      for (const from of holders) for (const to of holders) to.state.applyAll(from.state.list("bundle"), NOW);
    const [one, two, last] = holders.map(({ state }) => state) as [FleetState, FleetState, FleetState];
    expect([two.root(), last.root()]).toEqual([one.root(), one.root()]);
    for (const root of ended) expect(one.isRootTrusted(root.publicKey)).toBe(false);
  });
}
