// Roots that come, retire and are revoked, as the other nodes hear of them: who may say it, what stands of the words of one that is gone, and no way back.
import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { parseBody, ROOT_KEEP_MAX, type RootEntry, writeBody } from "../../src/federation/body.ts";
import { keyIdOf, type Signer } from "../../src/federation/curve.ts";
import { FleetState } from "../../src/federation/fleet_state.ts";
import {
  describeRootRequest,
  grantRootRequest,
  parseRootRequest,
  writeRootRequest,
} from "../../src/federation/root_request.ts";
import { BODY_BYTES_MAX, isSuccession, type Statement, signStatement } from "../../src/federation/statement.ts";
import { type KnownRoot, nextEntries, nextRecord } from "../../src/federation/succession.ts";
import { draw, random as seeded } from "../random.ts";
import { DOMAIN, hex, makeFleet, makeRoot, memoryStore, NOW, outcomeOf, say, take, voice } from "./fleet_fixture.ts";
import { RootFixture, signRecord } from "./root_fixture.ts";

// A busy machine makes and verifies signatures slowly.
setDefaultTimeout(30_000);

const fleet = makeFleet();
const roots = { first: fleet.root, second: makeRoot("second"), third: makeRoot("third"), thief: makeRoot("thief") };
let made: RootFixture;

beforeAll(async () => {
  made = await RootFixture.make(roots);
});

const record: RootFixture["record"] = (...about) => made.record(...about);
const known = (...signers: readonly Signer[]) => signers.map((root) => made.known([root, "trusted"]));

/** What a root said and stands, by its hashes. */
function wordsOf(state: FleetState, root: Signer): string[] {
  const said = state.listByAuthor(keyIdOf(root.publicKey)).filter((statement) => !isSuccession(statement));
  return said.map(({ hash }) => hash.slice(0, 32));
}

const grant = (root: Signer, name: string, revision = 1) =>
  say(
    root,
    ["issuer", name],
    { key: hex(voice(name).publicKey), authority: undefined, idPrefixes: [`spiffe://${DOMAIN}/`] },
    { revision },
  );

/** The record in three steps: the second comes, the first retires, the first is revoked. */
function rotation(state = fleet.state()) {
  const keep = wordsOf(state, roots.first);
  const came = record(undefined, roots.first, [
    [roots.first, "trusted"],
    [roots.second, "trusted"],
  ]);
  const retired = record(came, roots.second, [
    [roots.first, "retired", keep],
    [roots.second, "trusted"],
  ]);
  const revoked = record(retired, roots.second, [
    [roots.first, "revoked"],
    [roots.second, "trusted"],
  ]);
  return { came, retired, revoked };
}

describe("a root that comes", () => {
  test("apply() takes it when a root that is known brought it in, and from then on its words", () => {
    const state = fleet.state();
    expect(outcomeOf(state, grant(roots.second, "nora"))).toBe("root_unknown");
    take(state, rotation().came);
    take(state, grant(roots.second, "nora"));
    take(state, grant(roots.first, "omar"));
  });

  test("apply() refuses one that only itself brought in, that a node or an operator says, or whose endorsement is of another domain", () => {
    const state = fleet.state();
    const alone = record(undefined, roots.thief, [[roots.thief, "trusted"]]);
    expect(outcomeOf(state, alone)).toBe("root_unknown");
    const { roots: entries } = parseBody("roots", rotation().came);
    expect(outcomeOf(state, signRecord(voice("iris"), writeBody("roots", { roots: entries }), 1))).toBe(
      "right_missing",
    );
    const [first, second] = entries as [RootEntry, RootEntry];
    const foreign = nextRecord(undefined, known(roots.first, roots.second), {
      trustDomain: "else.example",
      author: roots.first,
    });
    const { roots: lent } = parseBody("roots", { body: foreign as Uint8Array });
    expect(outcomeOf(state, signRecord(roots.second, writeBody("roots", { roots: lent }), 1))).toBe("root_unknown");
    const altered = {
      ...second,
      certificate: Buffer.from(made.certificateOf(roots.thief)).toString("base64"),
    };
    expect(outcomeOf(state, signRecord(roots.thief, writeBody("roots", { roots: [first, altered] }), 1))).toBe(
      "root_unknown",
    );
    expect(state.roots).toBeUndefined();
  });

  test("apply() refuses a record that is altered, deleted, or of the wrong form", () => {
    const state = fleet.state();
    const { came } = rotation();
    const bytes = Uint8Array.from(came.signature);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    expect(outcomeOf(state, { ...came, signature: bytes })).toBe("forged");
    const draft = { trustDomain: DOMAIN, kind: "bundle", name: "domain", revision: 1, time: NOW } as const;
    expect(outcomeOf(state, signStatement({ ...draft, isDeleted: true, body: new Uint8Array() }, roots.first))).toBe(
      "statement_invalid",
    );
    expect(outcomeOf(state, signRecord(roots.first, Buffer.from('{"roots":[]}'), 1))).toBe("body_invalid");
  });
});

describe("a root that retires or is revoked", () => {
  test("apply() lets what it said until then stand, and what rests on that, and takes nothing new of it", () => {
    const state = fleet.state();
    const size = state.size;
    const { came, retired, revoked } = rotation(state);
    for (const each of [came, retired]) take(state, each);
    expect(outcomeOf(state, grant(roots.first, "late"))).toBe("root_unknown");
    take(state, revoked);
    expect(outcomeOf(state, grant(roots.first, "later"))).toBe("root_unknown");
    expect(state.size).toBe(size + 1);
    // A word of the new root takes the place of one of the old, and the role goes on.
    take(state, grant(roots.second, "iris", 2));
    expect(state.standing.grantOf("node", "ada")).toBeDefined();
  });

  test("apply() voids what it said that its successor does not name, and all that rests on it", () => {
    const state = fleet.state();
    const { came } = rotation(state);
    take(state, came);
    take(state, grant(roots.second, "nora"));
    take(
      state,
      record(came, roots.second, [
        [roots.first, "revoked", []],
        [roots.second, "trusted"],
      ]),
    );
    expect(state.list("issuer").map(({ name }) => name)).toEqual(["nora"]);
    expect(state.list("node")).toEqual([]);
  });

  test("apply() brings a node that was away to the last record at once, by who brought in whom", () => {
    const { came, retired, revoked } = rotation();
    const third = record(revoked, roots.second, [
      [roots.second, "trusted"],
      [roots.third, "trusted"],
    ]);
    const last = record(third, roots.third, [
      [roots.second, "retired"],
      [roots.third, "trusted"],
    ]);
    const state = fleet.state();
    take(state, last);
    expect(state.roots?.map(({ state: each }) => each)).toEqual(["revoked", "retired", "trusted"]);
    expect(state.standing.grantOf("node", "ada")).toBeDefined();
    for (const older of [came, retired, revoked, third]) expect(outcomeOf(state, older)).toBe("duplicate");
  });

  test("apply() goes back by no record, whatever its revision, and takes none by a root that may speak no more", () => {
    const state = fleet.state();
    const { came, retired, revoked } = rotation(state);
    take(state, revoked);
    const { roots: before } = parseBody("roots", came);
    const { roots: now } = parseBody("roots", revoked);
    // The second root itself must not take it back, and a stolen first one cannot.
    for (const back of [before, now.slice(1)])
      expect(outcomeOf(state, signRecord(roots.second, writeBody("roots", { roots: back }), 9))).toBe("duplicate");
    const stolen = record(came, roots.first, [
      [roots.first, "trusted"],
      [roots.second, "revoked"],
      [roots.thief, "trusted"],
    ]);
    expect(outcomeOf(state, signRecord(roots.first, stolen.body, 9))).toBe("root_retired");
    const after = record(retired, roots.first, [
      [roots.first, "retired"],
      [roots.second, "trusted"],
      [roots.thief, "trusted"],
    ]);
    const fresh = fleet.state();
    take(fresh, retired);
    expect(outcomeOf(fresh, after)).toBe("root_retired");
    const { roots: lent } = parseBody("roots", after);
    const meek = lent.map((entry, i): RootEntry => (i === 0 ? { ...entry, state: "retired" } : entry));
    for (const [author, code] of [
      [roots.first, "root_retired"],
      [roots.thief, "root_unknown"],
    ] as const)
      expect(outcomeOf(fresh, signRecord(author, writeBody("roots", { roots: meek }), 9))).toBe(code);
    // Nor can the one that speaks end itself, and leave nobody.
    const none = now.map((entry): RootEntry => ({ ...entry, state: "revoked" }));
    expect(outcomeOf(state, signRecord(roots.second, writeBody("roots", { roots: none }), 9))).toBe("root_retired");
  });

  test("FleetState reads from its store what it had, in whatever order the rows come, with the roots of its enrolment alone", () => {
    const store = memoryStore();
    const state = fleet.state(store);
    const { came, revoked } = rotation(state);
    take(state, came);
    take(state, revoked);
    take(state, grant(roots.second, "nora"));
    for (const enrolledWith of [roots.first, roots.second]) {
      const again = new FleetState({ trustDomain: DOMAIN, roots: [enrolledWith.publicKey], store });
      expect(again.root()).toBe(state.root());
      expect(again.isRootTrusted(roots.first.publicKey)).toBe(false);
    }
  });
});

test("grantRootRequest() has an offline root bring in the roots that a node asks for, and tells the person first", () => {
  const entries = nextEntries(undefined, known(roots.first, roots.second)) ?? [];
  const asks = [{ kind: "bundle", name: "domain", revision: 1, body: { roots: entries } }] as const;
  const asked = parseRootRequest(writeRootRequest({ trustDomain: DOMAIN, node: "iris", csr: "", asks }));
  expect(describeRootRequest(asked).join()).toMatch(/the roots .* [0-9a-f]{64} trusted, [0-9a-f]{64} trusted$/);
  const [statement] = grantRootRequest(asked, roots.first, { time: NOW, authority: undefined });
  const state = fleet.state();
  take(state, statement as Statement);
  take(state, grant(roots.second, "nora"));
  expect(() => grantRootRequest(asked, roots.thief, { time: NOW, authority: undefined })).toThrow(
    expect.objectContaining({ code: "root_unknown" }),
  );
});

test("nextRecord() says nothing when nothing is new, and takes no root back that the table of this node has again", () => {
  const { revoked } = rotation();
  const { roots: held } = parseBody("roots", revoked);
  expect(
    nextRecord(held, known(roots.first, roots.second), { trustDomain: DOMAIN, author: roots.second }),
  ).toBeUndefined();
});

describe("the bounds of a record", () => {
  const word = (n: number) => n.toString(16).padStart(32, "0");
  const words = (count: number) => Array.from({ length: count }, (_, n) => word(n));
  const entry = (n: number, keep: readonly string[]): RootEntry => ({
    certificate: `${Buffer.alloc(1120, n).toString("base64").slice(0, 1490)}${word(n).slice(-8)}==`,
    ...{ state: "retired", keep, by: "ab".repeat(32), endorsement: "cd".repeat(80) },
  });
  const full = (count: number) => Array.from({ length: 16 }, (_, n) => entry(n, n === 3 ? words(count) : []));

  test("writeBody() takes sixteen roots of the longest certificates with all the words that may stand, and a body holds them", () => {
    const body = writeBody("roots", { roots: full(ROOT_KEEP_MAX) });
    expect(body.length).toBeLessThanOrEqual(BODY_BYTES_MAX);
    expect(body.length).toBeGreaterThan(BODY_BYTES_MAX - 2000);
  });

  test("nextEntries() refuses more words or more roots than that, and says what to do", () => {
    const held = full(ROOT_KEEP_MAX - 1).slice(0, 15);
    const retired = (count: number): KnownRoot => ({
      ...{ certificate: made.certificateOf(roots.first), state: "retired", keep: words(count) },
    });
    expect(nextEntries(held, [retired(1)])?.length).toBe(16);
    const refused = (message: string) =>
      expect.objectContaining({ code: "roots_too_much", message: expect.stringContaining(message) });
    expect(() => nextEntries(held, [retired(2)])).toThrow(refused("have a root that goes on speaking say them again"));
    expect(() => nextEntries(full(0), [retired(0)])).toThrow(refused("it has had 17"));
  });
});

test("apply() throws nothing on a record of random members, and takes none", () => {
  const state = fleet.state();
  const random = seeded(7);
  const { roots: entries } = parseBody("roots", rotation().came);
  const text = JSON.stringify({ roots: entries });
  for (let i = 0; i < 300; i++) {
    const bytes = Buffer.from(text);
    for (let j = 0; j < 3; j++) bytes[draw(random, bytes.length)] = draw(random, 256);
    const outcome = state.apply(signRecord(roots.thief, new Uint8Array(bytes), 1 + draw(random, 5)), NOW);
    expect(outcome.outcome).toBe("refused");
  }
  expect(state.roots).toBeUndefined();
});
