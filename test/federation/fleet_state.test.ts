import { describe, expect, test } from "bun:test";
import { FleetState } from "../../src/federation/fleet_state.ts";
import { openStatementStore } from "../../src/federation/fleet_store.ts";
import { Generation } from "../../src/federation/generation.ts";
import { listNodes } from "../../src/federation/roster.ts";
import { parseStatement, signStatement } from "../../src/federation/statement.ts";
import { openStore } from "../../src/store.ts";
import {
  authorityId,
  DOMAIN,
  hex,
  makeFleet,
  makeRoot,
  memoryStore,
  NOW,
  outcomeOf,
  policy,
  say,
  sayDeleted,
  sayNode,
  sayResource,
  sayRevoked,
  saySeen,
  service,
  take,
  voice,
  workload,
} from "./fleet_fixture.ts";

const fleet = makeFleet();
const HOUR = 3_600_000;
const EDGE = { type: "group", name: "edge" } as const;

describe("rights", () => {
  const rights = { kinds: ["Service"], groups: undefined, idPrefixes: undefined, revoke: [] };

  test("apply() takes what root, issuing nodes, operators and nodes may say", () => {
    const state = fleet.state();
    expect(listNodes(state).map(({ name, isIssuer }) => [name, isIssuer])).toEqual([
      ["ada", false],
      ["ben", false],
      ["iris", true],
      ["ivan", true],
    ]);
    take(state, saySeen("ada"));
    take(state, sayResource(voice("olga"), service("web")));
    take(state, sayRevoked(voice("ada"), { type: "serial", authority: authorityId("ada"), value: "01" }));
    take(state, sayRevoked(voice("olga"), { type: "node", value: "ben" }));
    take(state, sayRevoked(voice("iris"), { type: "operator", value: "olga" }));
    take(state, sayRevoked(fleet.root, { type: "issuer", value: "ivan" }));
  });

  test.each([
    [
      "an issuing node grants an issuing node",
      say(voice("iris"), ["issuer", "eve"], {
        key: hex(voice("eve").publicKey),
        authority: undefined,
        idPrefixes: [`spiffe://${DOMAIN}/`],
      }),
      "right_missing",
    ],
    [
      "an operator makes an operator",
      say(voice("olga"), ["operator", "eve"], { key: hex(voice("eve").publicKey), ...rights }),
      "right_missing",
    ],
    [
      "another root grants",
      say(makeRoot("another"), ["operator", "eve"], { key: hex(voice("eve").publicKey), ...rights }),
      "root_unknown",
    ],
    ["a stranger admits a node", sayNode(voice("eve"), "mallory"), "author_unknown"],
    ["a node admits a node", sayNode(voice("ada"), "mallory"), "author_unknown"],
    [
      "a node speaks of another",
      say(voice("ada"), ["presence", "ben"], { addresses: [], version: "", applied: undefined, failure: undefined }),
      "right_missing",
    ],
    ["a node speaks of one that is not there", saySeen("mallory"), "author_unknown"],
    ["a node sets a rule", sayResource(voice("ada"), service("web")), "author_unknown"],
    ["a node revokes a node", sayRevoked(voice("ada"), { type: "node", value: "ben" }), "right_missing"],
    [
      "a node revokes what another signed",
      sayRevoked(voice("ada"), { type: "serial", authority: authorityId("ben"), value: "01" }),
      "right_missing",
    ],
    ["an issuing node revokes another", sayRevoked(voice("iris"), { type: "issuer", value: "ivan" }), "right_missing"],
    [
      "an operator revokes an operator",
      sayRevoked(voice("olga"), { type: "operator", value: "otto" }),
      "right_missing",
    ],
    ["an operator revokes what it may not", sayRevoked(voice("otto"), { type: "node", value: "ada" }), "right_missing"],
    [
      "an operator revokes an ID outside of its own",
      sayRevoked(voice("otto"), { type: "id", value: `spiffe://${DOMAIN}/db` }),
      "right_missing",
    ],
    [
      "an operator sets a kind that it may not",
      sayResource(voice("otto"), service("web"), { to: { type: "group", name: "edge" } }),
      "right_missing",
    ],
    ["an operator speaks to all", sayResource(voice("otto"), workload("otto.w", "edge/w")), "outside_groups"],
    [
      "an operator speaks to another group",
      sayResource(voice("otto"), workload("otto.w", "edge/w"), { to: { type: "group", name: "core" } }),
      "outside_groups",
    ],
    [
      "an operator gives another ID",
      sayResource(voice("otto"), workload("otto.w", "db"), { to: EDGE }),
      "outside_prefixes",
    ],
    [
      "an operator gives a template that could be any ID",
      sayResource(voice("otto"), workload("otto.w", "[process:user]/edge/"), { to: EDGE }),
      "outside_prefixes",
    ],
    [
      "an operator with limits speaks under a name that is not his own",
      sayResource(voice("otto"), workload("w", "edge/w"), { to: EDGE }),
      "outside_names",
    ],
    [
      "an operator with limits speaks under his own name without a dot",
      sayResource(voice("otto"), workload("ottos", "edge/w"), { to: EDGE }),
      "outside_names",
    ],
    [
      "a node says where a workload of another is",
      say(voice("ada"), ["endpoint", "ben"], { endpoints: [] }),
      "right_missing",
    ],
    [
      "somebody takes a revocation back",
      signStatement(
        {
          trustDomain: DOMAIN,
          kind: "revocation",
          name: "node:ada",
          revision: 9,
          time: NOW,
          isDeleted: true,
          body: new Uint8Array(),
        },
        voice("olga"),
      ),
      "revocation_permanent",
    ],
    [
      "a revocation of a node ends by itself",
      sayRevoked(voice("olga"), { type: "node", value: "ada" }, { expiresAt: NOW + 1 }),
      "statement_invalid",
    ],
    ["it is of another trust domain", saySeen("ada", { trustDomain: "other.org" }), "wrong_trust_domain"],
    ["a scope is none", saySeen("ada", { scope: "everyone" }), "statement_invalid"],
    [
      "a body has an unknown member",
      signStatement(
        {
          trustDomain: DOMAIN,
          kind: "presence",
          name: "ada",
          revision: 1,
          time: NOW,
          body: Buffer.from('{"addresses":[],"version":"1","x":1}'),
        },
        voice("ada"),
      ),
      "body_invalid",
    ],
    [
      "a resource is under another name",
      signStatement({ ...sayResource(voice("olga"), service("web")), name: "Service/other" }, voice("olga")),
      "body_invalid",
    ],
    [
      "a resource is not canonical",
      signStatement(
        {
          trustDomain: DOMAIN,
          kind: "resource",
          name: "Service/web",
          revision: 1,
          time: NOW,
          body: Buffer.from('{"kind":"AccessPolicy","kind":"Service","metadata":{"name":"web"}}'),
        },
        voice("olga"),
      ),
      "body_invalid",
    ],
    [
      "the root speaks for a node",
      say(fleet.root, ["presence", "ada"], { addresses: [], version: "", applied: undefined, failure: undefined }),
      "right_missing",
    ],
  ] as const)("apply() refuses when %s", (_, statement, code) => {
    const state = fleet.state();
    const before = state.root();
    expect(outcomeOf(state, statement)).toBe(code);
    expect(state.root()).toBe(before);
  });

  test("apply() takes what a limited operator may say within its group and prefix", () => {
    const state = fleet.state();
    take(state, sayResource(voice("otto"), workload("otto.w", "edge/w"), { to: EDGE }));
    take(state, sayResource(voice("otto"), workload("otto.t", "edge/[process:user]"), { to: EDGE }));
    take(state, sayDeleted(voice("otto"), "WorkloadIdentity/otto.w", { revision: 2 }));
    take(state, sayRevoked(voice("otto"), { type: "id", value: `spiffe://${DOMAIN}/edge/w` }));
  });

  test.each([
    ["deletes", sayDeleted(voice("otto"), "AccessPolicy/db", { revision: 2, scope: "group:edge" })],
    ["replaces", sayResource(voice("otto"), policy("db", "edge/x"), { to: EDGE, revision: 2 })],
  ])("apply() gives one state, in either order, when an operator with limits %s what another has said", (_, theft) => {
    const said = sayResource(voice("olga"), policy("db", "db/*"));
    for (const order of [
      [said, theft],
      [theft, said],
    ]) {
      const state = fleet.state();
      const outcomes = order.map((statement) => outcomeOf(state, statement));
      expect(outcomes.sort()).toEqual(["accepted", "outside_names"]);
      expect(state.list("resource")).toEqual([said]);
    }
  });

  test("apply() names the remedy when an operator with limits speaks under another name", () => {
    const outcome = fleet.state().apply(sayResource(voice("otto"), workload("w", "edge/w"), { to: EDGE }), NOW);
    const message = expect.stringContaining('has to begin with "otto.": name it otto.w');
    expect(outcome).toMatchObject({ outcome: "refused", message });
  });

  test("apply() refuses a node outside of what its issuing node may admit", () => {
    const state = fleet.state();
    const key = hex(voice("isa").publicKey);
    take(
      state,
      say(fleet.root, ["issuer", "isa"], { key, authority: undefined, idPrefixes: [`spiffe://${DOMAIN}/shop/`] }),
    );
    take(state, sayNode(voice("isa"), "till", { idPrefixes: [`spiffe://${DOMAIN}/shop/till/`] }));
    expect(outcomeOf(state, sayNode(voice("isa"), "more", { idPrefixes: [`spiffe://${DOMAIN}/`] }))).toBe(
      "outside_prefixes",
    );
    expect(outcomeOf(state, sayNode(voice("isa"), "more", { idPrefixes: [`spiffe://${DOMAIN}/shop`] }))).toBe(
      "outside_prefixes",
    );
  });

  test("apply() refuses a statement that its author did not sign", () => {
    const { bytes } = saySeen("ada");
    const forged = Uint8Array.from(bytes);
    forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
    expect(outcomeOf(fleet.state(), parseStatement(forged))).toBe("forged");
  });
});

describe("revocation", () => {
  test("apply() voids all that a revoked node said, and hears it no more", () => {
    const state = fleet.state();
    const seen = saySeen("ada");
    take(state, seen);
    const outcome = state.apply(sayRevoked(voice("olga"), { type: "node", value: "ada" }), NOW);
    expect(outcome).toMatchObject({
      outcome: "accepted",
      changes: [{ type: "put" }, { type: "removed", statement: seen }],
    });
    expect(outcomeOf(state, saySeen("ada", { revision: 2 }))).toBe("author_revoked");
    expect(state.get("presence", "ada")).toBeUndefined();
  });

  test("apply() lets stand what the revocation of an operator keeps by hash, and nothing else however it is dated", () => {
    const state = fleet.state();
    const [kept, fallen] = [sayResource(voice("olga"), service("kept")), sayResource(voice("olga"), service("fallen"))];
    take(state, kept);
    take(state, fallen);
    take(state, sayRevoked(voice("iris"), { type: "operator", value: "olga" }, { keep: [kept.hash.slice(0, 32)] }));
    expect(state.list("resource")).toEqual([kept]);
    expect(outcomeOf(state, sayResource(voice("olga"), service("late"), { time: NOW - HOUR }))).toBe("author_revoked");
    expect(outcomeOf(state, sayResource(voice("olga"), service("kept", 81), { revision: 2 }))).toBe("author_revoked");
    expect(outcomeOf(state, fallen)).toBe("author_revoked");
  });

  test("apply() carries the fall of an issuing node down to the nodes that it admitted, and their words", () => {
    const state = fleet.state();
    take(state, sayNode(voice("ivan"), "carl"));
    take(state, saySeen("carl"));
    take(state, saySeen("ada"));
    take(state, sayRevoked(fleet.root, { type: "issuer", value: "ivan" }));
    expect(listNodes(state).map(({ name }) => name)).toEqual(["ada", "ben", "iris", "ivan"]);
    expect(state.list("presence").map(({ name }) => name)).toEqual(["ada"]);
  });

  test("apply() keeps two people's revocations of one target apart, so that the fall of one leaves the other", () => {
    const state = fleet.state();
    take(state, sayRevoked(voice("olga"), { type: "node", value: "ada" }));
    take(state, sayRevoked(voice("iris"), { type: "node", value: "ada" }));
    take(state, sayRevoked(voice("iris"), { type: "operator", value: "olga" }));
    expect(state.standing.revocationsOf("node:ada").length).toBe(1);
    expect(outcomeOf(state, saySeen("ada"))).toBe("author_revoked");
  });

  test("apply() judges the words of a node again when its entry gets another key or other prefixes", () => {
    const state = fleet.state();
    const spiffeId = `spiffe://${DOMAIN}/web`;
    take(state, saySeen("ada"));
    take(state, say(voice("ada"), ["endpoint", "ada"], { endpoints: [{ spiffeId, address: "192.0.2.1", port: 80 }] }));
    take(state, sayNode(voice("iris"), "ada", { idPrefixes: [`spiffe://${DOMAIN}/db/`] }, { revision: 2 }));
    expect(state.get("endpoint", "ada")).toBeUndefined();
    expect(state.get("presence", "ada")).toBeDefined();
    take(state, sayNode(voice("iris"), "ada", { key: hex(voice("new ada").publicKey) }, { revision: 3 }));
    expect(state.get("presence", "ada")).toBeUndefined();
    expect(outcomeOf(state, saySeen("ada", { revision: 2 }))).toBe("right_missing");
  });

  test("prune() removes the revocation of a serial when its certificate has ended, and apply() takes it no more", () => {
    const state = fleet.state();
    const target = { type: "serial", authority: authorityId("ada"), value: "0a" } as const;
    const revocation = sayRevoked(voice("ada"), target, { expiresAt: NOW + HOUR });
    const before = state.root();
    take(state, revocation);
    expect(state.prune(NOW + 2 * HOUR)).toEqual([]);
    expect(state.prune(NOW + 2 * HOUR + 1)).toMatchObject([{ type: "removed", statement: revocation }]);
    expect(state.root()).toBe(before);
    expect(outcomeOf(state, revocation, NOW + 2 * HOUR + 1)).toBe("expired");
  });

  test("apply() changes nothing, here or on disk, when the store cannot keep what came", () => {
    const store = memoryStore();
    const rows = new Map(store.rows);
    let isFull = false;
    const state = fleet.state({
      ...store,
      put(key, bytes) {
        if (isFull && key.startsWith("resource/")) throw new Error("the disk is full");
        store.put(key, bytes);
      },
      atomically(work) {
        const before = new Map(store.rows);
        try {
          return work();
        } catch (thrown) {
          store.rows.clear();
          for (const [key, bytes] of before) store.rows.set(key, bytes);
          throw thrown;
        }
      },
    });
    take(state, sayResource(voice("olga"), service("web", 1)));
    const [root, generation, size] = [state.root(), state.generation(), state.size];
    for (const [key, bytes] of store.rows) rows.set(key, bytes);
    isFull = true;
    const batch = [
      sayRevoked(voice("iris"), { type: "operator", value: "otto" }),
      sayNode(voice("iris"), "cleo"),
      sayRevoked(fleet.root, { type: "issuer", value: "ivan" }),
      sayResource(voice("olga"), service("web", 2), { revision: 2 }),
    ];
    expect(() => state.applyAll(batch, NOW)).toThrow("the disk is full");
    expect([state.root(), state.generation(), state.size]).toEqual([root, generation, size]);
    expect(store.rows).toEqual(rows);
    expect(state.standing.grantOf("node", "cleo")).toBeUndefined();
    expect(state.standing.revocationsOf("operator:otto")).toEqual([]);
    expect(outcomeOf(state, sayNode(voice("ivan"), "dora"))).toBe("accepted");
    // The same comes again when the disk is mended.
    isFull = false;
    expect(state.applyAll(batch, NOW).map(({ outcome }) => outcome.outcome)).toEqual(batch.map(() => "accepted"));
    expect(state.standing.revocationsOf("operator:otto")).toHaveLength(1);
  });

  test("applyUnkept() has a revocation in force though the store fails, and keeps it with the next that it takes", () => {
    const kept = memoryStore();
    let isFull = false;
    const store = {
      ...kept,
      put(key: string, bytes: Uint8Array) {
        if (isFull) throw new Error("the disk is full");
        kept.put(key, bytes);
      },
    };
    const state = fleet.state(store);
    const batch = [sayRevoked(voice("iris"), { type: "node", value: "ben" }), sayNode(voice("iris"), "cleo")];
    isFull = true;
    expect(() => state.applyAll(batch, NOW)).toThrow("the disk is full");
    expect(state.applyUnkept(batch, NOW)).toMatchObject([{ outcome: { outcome: "accepted" } }]);
    expect(state.standing.revocationsOf("node:ben")).toHaveLength(1);
    expect(state.standing.grantOf("node", "cleo")).toBeUndefined();
    expect([...kept.rows.keys()].some((key) => key.startsWith("revocation/"))).toBe(false);
    isFull = false;
    take(state, sayNode(voice("iris"), "cleo"));
    const again = new FleetState({ trustDomain: DOMAIN, roots: [fleet.root.publicKey], store: kept });
    expect(again.root()).toBe(state.root());
  });
});

describe("order", () => {
  test("apply() gives one state and shows the conflict, whichever of two of one revision comes first", () => {
    const [a, b] = [sayResource(voice("olga"), service("web", 1)), sayResource(voice("olga"), service("web", 2))];
    const [first, second] = [fleet.state(), fleet.state()];
    take(first, a);
    take(second, b);
    const outcomes = [first.apply(b, NOW), second.apply(a, NOW)];
    expect(first.root()).toBe(second.root());
    expect(first.generation()).toEqual(second.generation());
    const winner = first.get("resource", "Service/web");
    for (const outcome of outcomes) {
      const conflict =
        outcome.outcome === "stale"
          ? outcome.conflict
          : outcome.outcome === "accepted" && outcome.changes[0]?.type === "put"
            ? outcome.changes[0].conflict
            : undefined;
      expect(conflict).toMatchObject({ winner, loser: winner === a ? b : a });
    }
  });

  test("apply() answers a stale statement with the one that stands, and a duplicate with a word", () => {
    const state = fleet.state();
    const late = saySeen("ada", { revision: 3 });
    take(state, late);
    expect(state.apply(saySeen("ada", { revision: 2 }), NOW)).toEqual({
      outcome: "stale",
      held: late,
      conflict: undefined,
    });
    expect(state.apply(late, NOW)).toEqual({ outcome: "duplicate" });
  });

  test("draft() goes on from what stands, a revocation from the author's own", () => {
    const state = fleet.state();
    take(state, saySeen("ada", { revision: 41 }));
    const draft = { kind: "presence", name: "ada", time: NOW, body: new Uint8Array() } as const;
    expect(state.draft(draft, "x").revision).toBe(42);
    const revocation = { ...draft, kind: "revocation", name: "node:ada" } as const;
    take(state, sayRevoked(voice("olga"), { type: "node", value: "ada" }));
    expect(state.draft(revocation, "x").revision).toBe(1);
  });

  test.each([
    ["as great as can be", 2 ** 48 - 1],
    ["ahead of the clock by more than clocks differ", NOW + 60_001],
  ])("apply() refuses a revision %s, and takes it when its time has come", (_, revision) => {
    const state = fleet.state();
    const word = sayResource(voice("olga"), service("web"), { revision });
    expect(outcomeOf(state, word)).toBe("revision_ahead");
    expect(state.get("resource", "Service/web")).toBeUndefined();
    expect(outcomeOf(state, word, revision - 60_000)).toBe("accepted");
  });

  test("apply() takes the next word of an honest author after the greatest revision that it takes from a thief", () => {
    const theft = sayResource(voice("olga"), service("web", 666), { revision: NOW + 60_000, time: 2 ** 48 - 1 });
    const draft = {
      kind: "resource",
      name: "Service/web",
      time: NOW + 1,
      body: sayResource(voice("olga"), service("web")).body,
    };
    const [first, second] = [fleet.state(), fleet.state()];
    take(first, theft);
    const next = signStatement(first.draft(draft as never, "x"), voice("olga"));
    expect(outcomeOf(first, next, NOW + 1)).toBe("accepted");
    expect([outcomeOf(second, next, NOW + 1), outcomeOf(second, theft, NOW + 1)]).toEqual(["accepted", "stale"]);
    expect(second.root()).toBe(first.root());
  });

  test("apply() takes a revocation whatever its revision is, and draft() goes on from the greatest", () => {
    const state = fleet.state();
    const most = sayRevoked(voice("olga"), { type: "node", value: "ada" }, { revision: 2 ** 48 - 1 });
    take(state, most);
    const { kind, name, body } = most;
    const next = state.draft({ kind, name, body, time: NOW + 1 }, most.authorId);
    expect(outcomeOf(state, signStatement(next, voice("olga")))).toBe("accepted");
  });

  test("prune() removes what an earlier state holds beyond the clock, so that an honest word can stand", () => {
    const store = memoryStore();
    fleet.state(store);
    const word = sayResource(voice("olga"), service("web"), { revision: 2 ** 48 - 1 });
    store.rows.set(word.key, word.bytes);
    const state = new FleetState({ trustDomain: DOMAIN, roots: [fleet.root.publicKey], store });
    expect(state.get("resource", "Service/web")).toBeDefined();
    expect(state.prune(NOW)).toMatchObject([{ type: "removed", statement: { hash: word.hash } }]);
    expect(outcomeOf(state, sayResource(voice("olga"), service("web")))).toBe("accepted");
    expect(state.prune(NOW)).toEqual([]);
  });

  test("value() gives a number that a presence can hold however great the revisions are, and the exact one again after them", () => {
    const generation = new Generation();
    const words = Array.from({ length: 10_000 }, (_, i): Parameters<Generation["add"]>[0] => {
      return { kind: "resource", key: `resource/Service/s${i}`, hash: "", revision: i === 0 ? 7 : NOW + 3 * i };
    });
    for (const word of words) generation.add(word);
    expect(generation.value().number).toBe(Number.MAX_SAFE_INTEGER);
    for (const word of words.slice(1)) generation.remove(word);
    expect(generation.value().number).toBe(7);
  });

  test("generation() grows with every change of a resource and with nothing else", () => {
    const state = fleet.state();
    expect(state.generation().number).toBe(0);
    take(state, sayResource(voice("olga"), service("web")));
    const first = state.generation();
    take(state, saySeen("ada"));
    expect(state.generation()).toEqual(first);
    take(state, sayDeleted(voice("olga"), "Service/web", { revision: 2 }));
    expect(state.generation().number).toBe(2);
    expect(state.generation().digest).not.toBe(first.digest);
  });
});

describe("store", () => {
  test("FleetState goes on from its store without asking anybody", () => {
    const store = openStore(":memory:");
    const state = fleet.state(openStatementStore(store));
    take(state, sayResource(voice("olga"), service("web")));
    take(state, sayRevoked(voice("olga"), { type: "node", value: "ada" }));
    const again = new FleetState({
      trustDomain: DOMAIN,
      roots: [fleet.root.publicKey],
      store: openStatementStore(store),
    });
    expect(again.root()).toBe(state.root());
    expect(again.generation()).toEqual(state.generation());
    expect(outcomeOf(again, saySeen("ada"))).toBe("author_revoked");
    store.close();
  });

  test("FleetState writes what stands and no more", () => {
    const store = memoryStore();
    const state = fleet.state(store);
    take(state, saySeen("ada"));
    take(state, sayRevoked(voice("olga"), { type: "node", value: "ada" }));
    expect(store.rows.size).toBe(state.size);
    expect([...store.rows.keys()]).not.toContain("presence/ada");
  });

  test("applyAll() takes a batch in the order of its grants, whatever order it came in", () => {
    const store = openStore(":memory:");
    const port = openStatementStore(store);
    const fresh = new FleetState({ trustDomain: DOMAIN, roots: [fleet.root.publicKey], store: port });
    const outcomes = fresh.applyAll([saySeen("ada"), ...[...fleet.grants].reverse()], NOW);
    expect(outcomes.every(({ outcome }) => outcome.outcome === "accepted")).toBe(true);
    store.close();
  });
});
