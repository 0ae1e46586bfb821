import { describe, expect, test } from "bun:test";
import { KEEP_MAX } from "../../src/federation/body.ts";
import {
  findNode,
  type IssuedPath,
  keepOf,
  listEndpoints,
  listNodes,
  listRevocations,
  mayIssue,
  resourcesFor,
  revocationOf,
} from "../../src/federation/roster.ts";
import {
  type Keep,
  type RevocationTarget,
  tryParseScope,
  tryParseTarget,
  writeScope,
  writeTarget,
} from "../../src/fleet.ts";
import {
  authorityId,
  DOMAIN,
  hex,
  makeFleet,
  NOW,
  outcomeOf,
  say,
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
const ISSUING = authorityId("issuing");

function path(name: string, id = "web"): IssuedPath {
  return {
    spiffeId: `spiffe://${DOMAIN}/${id}`,
    certificates: [
      { serial: "0a", authority: authorityId(name) },
      { serial: "0b", authority: ISSUING },
    ],
  };
}

describe("mayIssue()", () => {
  test("accepts a node of the roster for an ID of its prefixes, under each of its authorities", () => {
    const state = fleet.state();
    expect(mayIssue(state, path("ada"))).toEqual({ ok: true, node: "ada" });
    const authorities = [authorityId("ada again"), authorityId("ada")];
    take(state, sayNode(voice("ivan"), "ada", { authorities }, { revision: 2 }));
    for (const name of ["ada", "ada again"]) expect(mayIssue(state, path(name))).toEqual({ ok: true, node: "ada" });
  });

  test("refuses an authority that no node has, a former one, and an ID that the node may not issue", () => {
    const state = fleet.state();
    expect(mayIssue(state, path("eve"))).toMatchObject({ ok: false, code: "authority_unknown", statement: undefined });
    expect(mayIssue(state, { spiffeId: `spiffe://${DOMAIN}/web`, certificates: [] })).toMatchObject({
      code: "authority_unknown",
    });
    const idPrefixes = [`spiffe://${DOMAIN}/db/`, `spiffe://${DOMAIN}/cache`];
    const narrowed = sayNode(voice("iris"), "ada", { idPrefixes, authorities: [authorityId("new")] }, { revision: 2 });
    take(state, narrowed);
    expect(mayIssue(state, path("ada"))).toMatchObject({ code: "authority_unknown" });
    expect(mayIssue(state, path("new"))).toMatchObject({ code: "id_outside_node", statement: narrowed.hash });
    expect(mayIssue(state, path("new", "dbx"))).toMatchObject({ code: "id_outside_node" });
    expect(mayIssue(state, path("new", "cache/x"))).toMatchObject({ code: "id_outside_node" });
    for (const id of ["db/a", "cache"]) expect(mayIssue(state, path("new", id))).toMatchObject({ ok: true });
  });

  test.each([
    ["node_revoked", { type: "node", value: "ada" }],
    ["id_revoked", { type: "id", value: `spiffe://${DOMAIN}/web` }],
    ["serial_revoked", { type: "serial", authority: authorityId("ada"), value: "0a" }],
    ["serial_revoked", { type: "serial", authority: ISSUING, value: "0b" }],
    ["authority_revoked", { type: "authority", value: authorityId("ada") }],
    ["authority_revoked", { type: "authority", value: ISSUING }],
  ] as const)("refuses by %s and names the statement", (code, target) => {
    const state = fleet.state();
    const statement = sayRevoked(voice("olga"), target);
    take(state, statement);
    expect(mayIssue(state, path("ada"))).toMatchObject({ ok: false, code, statement: statement.hash });
    expect(revocationOf(state, target)?.statement).toEqual(statement);
    expect(listRevocations(state)).toMatchObject([{ target, reason: "test" }]);
  });

  test("keepOf() lets the words of an operator who leaves stand, and nothing that he says later", () => {
    const state = fleet.state();
    const said = sayResource(voice("olga"), service("web"));
    take(state, said);
    const target = { type: "operator", value: "olga" } as const;
    expect(keepOf(state, { type: "node", value: "ada" })).toEqual([]);
    expect(keepOf(state, { type: "operator", value: "nobody" })).toEqual([]);
    take(state, sayRevoked(voice("iris"), target, { keep: keepOf(state, target) }));
    expect(state.list("resource")).toEqual([said]);
    expect(outcomeOf(state, sayResource(voice("olga"), service("web"), { revision: 2 }))).toBe("author_revoked");
  });

  test("keepOf() refuses to name more than one statement can, and says how to revoke all the same", () => {
    const state = fleet.state();
    for (let n = 0; n <= KEEP_MAX; n++) take(state, sayResource(voice("olga"), service(`s${n}`)));
    const stolen = sayRevoked(voice("olga"), { type: "node", value: "ben" });
    const others = sayResource(voice("otto"), workload("otto.w", "edge/w"), {
      to: { type: "group", name: "edge" },
    });
    for (const said of [stolen, others]) take(state, said);
    const target = { type: "operator", value: "olga" } as const;
    const remedy = /--keep revocations .*--keep none .*have another operator say first, with riprap apply --fleet/;
    expect(() => keepOf(state, target)).toThrow(
      expect.objectContaining({ code: "revocation_too_much", message: expect.stringMatching(remedy) }),
    );
    expect(keepOf(state, target, "revocations")).toEqual([stolen.hash.slice(0, 32)]);
    expect(keepOf(state, target, "none")).toEqual([]);
  });

  const revokeKeeping = (keep: Keep, isOrderTurned: boolean) => {
    const state = fleet.state();
    const target = { type: "operator", value: "olga" } as const;
    const mine = [
      sayResource(voice("olga"), service("web")),
      sayRevoked(voice("olga"), { type: "node", value: "ben" }),
    ];
    for (const said of mine) take(state, said);
    const revoked = sayRevoked(voice("iris"), target, { keep: keepOf(state, target, keep) });
    const next = isOrderTurned ? fleet.state() : state;
    next.applyAll(isOrderTurned ? [revoked, ...mine] : [revoked], NOW);
    return { services: next.list("resource").length, revoked: listRevocations(next).map(({ target: of }) => of.type) };
  };

  test.each([
    ["all", { services: 1, revoked: ["node", "operator"] }],
    ["revocations", { services: 0, revoked: ["node", "operator"] }],
    ["none", { services: 0, revoked: ["operator"] }],
  ] as const)("keepOf(%p) lets stand of a revoked operator what it says, whatever comes first", (keep, expected) => {
    for (const isOrderTurned of [false, true]) {
      const got = revokeKeeping(keep, isOrderTurned);
      expect({ ...got, revoked: got.revoked.sort() }).toEqual({ ...expected, revoked: [...expected.revoked] });
    }
  });

  test("what another operator says again stands when nothing of the first one is kept", () => {
    const state = fleet.state();
    const target = { type: "operator", value: "olga" } as const;
    for (let n = 0; n < 3; n++) take(state, sayResource(voice("olga"), workload(`w${n}`, "edge/w")));
    const rights = { kinds: ["WorkloadIdentity"], groups: undefined, idPrefixes: undefined, revoke: [] };
    take(state, say(fleet.root, ["operator", "anna"], { key: hex(voice("anna").publicKey), ...rights }));
    const again = sayResource(voice("anna"), workload("w1", "edge/w"), { revision: 2 });
    take(state, again);
    take(state, sayRevoked(voice("iris"), target, { keep: keepOf(state, target, "none") }));
    expect(state.list("resource")).toEqual([again]);
  });

  test("keeps the serial numbers of two authorities apart", () => {
    const state = fleet.state();
    take(state, sayRevoked(voice("olga"), { type: "serial", authority: authorityId("ben"), value: "0a" }));
    expect(mayIssue(state, path("ada"))).toMatchObject({ ok: true });
    expect(mayIssue(state, path("ben"))).toMatchObject({ code: "serial_revoked" });
  });
});

describe("roster", () => {
  test("listNodes() shows what a node said of itself, and who is revoked", () => {
    const state = fleet.state();
    const applied = { number: 4, digest: "00".repeat(8) };
    take(
      state,
      say(voice("ada"), ["presence", "ada"], { addresses: ["2001:db8::1"], version: "2", applied, failure: "no" }),
    );
    take(state, sayRevoked(voice("iris"), { type: "node", value: "ben" }));
    expect(findNode(state, "ada")?.presence).toMatchObject({
      addresses: ["2001:db8::1"],
      version: "2",
      applied,
      failure: "no",
    });
    expect(listNodes(state).map(({ name, state: standing }) => [name, standing])).toContainEqual(["ben", "revoked"]);
    expect(findNode(state, "eve")).toBeUndefined();
    take(state, saySeen("ada", { revision: 2 }));
    expect(findNode(state, "ada")?.presence).toMatchObject({ applied: undefined, failure: undefined });
  });

  test("listEndpoints() finds workloads of peers, and those of a revoked node no more", () => {
    const state = fleet.state();
    const endpoint = { spiffeId: `spiffe://${DOMAIN}/web`, address: "192.0.2.9", port: 8443 };
    take(state, say(voice("ada"), ["endpoint", "ada"], { endpoints: [endpoint] }));
    expect(listEndpoints(state)).toEqual([{ node: "ada", ...endpoint }]);
    take(state, sayRevoked(voice("iris"), { type: "node", value: "ada" }));
    expect(listEndpoints(state)).toEqual([]);
  });

  test("resourcesFor() gives a node what is for all, for its groups and for itself", () => {
    const state = fleet.state();
    take(state, sayResource(voice("olga"), service("all")));
    take(state, sayResource(voice("olga"), service("edge"), { to: { type: "group", name: "edge" } }));
    take(state, sayResource(voice("olga"), service("ada"), { to: { type: "node", name: "ada" } }));
    const namesFor = (name: string, groups: string[]) =>
      resourcesFor(state, { name, groups: new Set(groups) }).map((statement) => statement.name);
    expect(namesFor("ada", [])).toEqual(["Service/ada", "Service/all"]);
    expect(namesFor("ben", ["edge"])).toEqual(["Service/all", "Service/edge"]);
    expect(namesFor("edge", [])).toEqual(["Service/all"]);
  });
});

describe("fleet values", () => {
  test("tryParseTarget() reads what writeTarget() writes, and refuses everything else", () => {
    const targets: RevocationTarget[] = [
      { type: "serial", authority: authorityId("a"), value: "0a0b" },
      { type: "id", value: `spiffe://${DOMAIN}/a` },
      { type: "node", value: "edge-3" },
      { type: "executable", value: "ab".repeat(32) },
    ];
    for (const target of targets) expect(tryParseTarget(writeTarget(target))).toEqual(target);
    const wrong = [
      "",
      "node",
      "node:",
      "node:A",
      "serial:0a",
      `serial:${authorityId("a")}:0`,
      "id:http://x",
      "id:spiffe://X/a",
      "host:a",
    ];
    for (const text of [
      ...wrong,
      `authority:${"g".repeat(40)}`,
      `token:${"0".repeat(31)}`,
      "node:a\n",
      "executable:00",
    ]) {
      expect(tryParseTarget(text)).toBeUndefined();
    }
    expect(() => writeTarget({ type: "node", value: "Not" })).toThrow(
      expect.objectContaining({ code: "revocation_invalid" }),
    );
  });

  test("tryParseScope() reads what writeScope() writes, and refuses everything else", () => {
    for (const text of ["all", "group:edge", "node:ada"]) {
      const scope = tryParseScope(text);
      expect(scope === undefined ? undefined : writeScope(scope)).toBe(text);
    }
    for (const text of ["", "everyone", "group:", "group:A", "node:a b", "all ", "group:edge\n"]) {
      expect(tryParseScope(text)).toBeUndefined();
    }
  });
});
