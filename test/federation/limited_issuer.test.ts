// An issuing node that the root has limited to ID prefixes: what it says stays within them, whatever it names.
import { describe, expect, test } from "bun:test";
import { admissionFault } from "../../src/federation/admission.ts";
import type { FleetState } from "../../src/federation/fleet_state.ts";
import { mayIssue } from "../../src/federation/roster.ts";
import type { Statement } from "../../src/federation/statement.ts";
import type { RevocationTarget } from "../../src/fleet.ts";
import {
  authorityId,
  DOMAIN,
  hex,
  makeFleet,
  outcomeOf,
  say,
  sayNode,
  sayRevoked,
  take,
  voice,
} from "./fleet_fixture.ts";

const ISA = voice("isa");
const SHOP = `spiffe://${DOMAIN}/shop/`;
const fleet = makeFleet();

function grant(idPrefixes: readonly string[], revision = 1): Statement {
  const body = { key: hex(ISA.publicKey), authority: undefined, idPrefixes };
  return say(fleet.root, ["issuer", "isa"], body, { revision });
}

function limited(): FleetState {
  const state = fleet.state();
  take(state, grant([SHOP]));
  return state;
}

const path = (id: string) => ({
  spiffeId: `spiffe://${DOMAIN}/${id}`,
  certificates: [{ serial: "0a", authority: authorityId("ada") }],
});

describe("an issuing node with limits", () => {
  const within: readonly RevocationTarget[] = [
    { type: "id", value: `${SHOP}till` },
    { type: "node", value: "till" },
    { type: "token", value: "ab".repeat(16) },
    { type: "authority", value: authorityId("till") },
    { type: "serial", authority: authorityId("till"), value: "41" },
  ];
  const beyond: readonly RevocationTarget[] = [
    { type: "id", value: `spiffe://${DOMAIN}/db` },
    { type: "id", value: `spiffe://${DOMAIN}/shop` },
    { type: "operator", value: "olga" },
    { type: "executable", value: "cd".repeat(32) },
  ];

  test.each(within)("revokes $type:$value", (target) => {
    take(limited(), sayRevoked(ISA, target));
  });

  test.each(beyond)("is refused when it revokes $type:$value, and told where to do it", (target) => {
    const state = limited();
    const said = sayRevoked(ISA, target);
    expect(state.apply(said, said.time)).toMatchObject({
      code: "outside_prefixes",
      message: expect.stringContaining("an issuing node without limits"),
    });
    // One without may.
    take(state, sayRevoked(voice("iris"), target));
  });

  test("has its revocations judged anew when the root limits it, and they come back to nobody who heard them later", () => {
    const revoked = sayRevoked(ISA, { type: "id", value: `spiffe://${DOMAIN}/db` });
    const [early, late] = [fleet.state(), fleet.state()];
    take(early, grant([`spiffe://${DOMAIN}/`]));
    take(early, revoked);
    for (const state of [early, late]) take(state, grant([SHOP], 2));
    expect(outcomeOf(late, revoked)).toBe("outside_prefixes");
    expect(early.root()).toBe(late.root());
  });

  test("takes no ID from a node by naming its authority in an entry of its own, in any order and under any name", () => {
    for (const name of ["aaa", "zzz"]) {
      const claim = sayNode(ISA, name, { idPrefixes: [SHOP], authorities: [authorityId("ada")] });
      const state = limited();
      take(state, claim);
      expect(mayIssue(state, path("db"))).toEqual({ ok: true, node: "ada" });
    }
  });

  test("lets a node do no more than it may admit, when it names that node's authority", () => {
    const state = limited();
    take(state, sayNode(voice("iris"), "ada", { idPrefixes: [`spiffe://${DOMAIN}/db/`] }, { revision: 2 }));
    expect(mayIssue(state, path("shop/till"))).toMatchObject({ ok: false, code: "id_outside_node" });
    take(state, sayNode(ISA, "aaa", { idPrefixes: [SHOP], authorities: [authorityId("ada")] }));
    expect(mayIssue(state, path("shop/till"))).toEqual({ ok: true, node: "aaa" });
    expect(mayIssue(state, path("web"))).toMatchObject({ ok: false, code: "id_outside_node" });
  });

  test("brings no revoked node's authority back by an entry of its own, nor lets it join with it", () => {
    const state = limited();
    for (const name of ["aaa", "zzz"])
      take(state, sayNode(ISA, name, { idPrefixes: [SHOP], authorities: [authorityId("ada")] }));
    const revoked = sayRevoked(voice("olga"), { type: "node", value: "ada" });
    take(state, revoked);
    for (const id of ["db", "shop/till"])
      expect(mayIssue(state, path(id))).toMatchObject({ ok: false, code: "node_revoked", statement: revoked.hash });
    const claim = { nodeName: "fresh", key: hex(voice("fresh").publicKey), mayReplace: false };
    expect(admissionFault(state, { ...claim, authority: authorityId("ada") })?.[0]).toBe("node_revoked");
    expect(admissionFault(state, { ...claim, authority: authorityId("fresh") })).toBeUndefined();
  });
});
