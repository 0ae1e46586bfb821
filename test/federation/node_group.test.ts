import { describe, expect, test } from "bun:test";
import { groupsOf } from "../../src/federation/node_group.ts";
import { DOMAIN, makeFleet, sayResource, take, voice } from "./fleet_fixture.ts";

const fleet = makeFleet();
const group = (name: string, ...nodes: unknown[]) => ({
  apiVersion: "riprap.io/v1",
  kind: "NodeGroup",
  metadata: { name },
  spec: { nodes },
});
const ada = { name: "ada", group: "default" };

describe("groupsOf()", () => {
  test("gives the group of the roster and every NodeGroup that names the node", () => {
    const state = fleet.state();
    take(state, sayResource(voice("olga"), group("named", "ada")));
    take(state, sayResource(voice("olga"), group("patterned", "a*")));
    take(state, sayResource(voice("olga"), group("others", "ben", "ad", "adam*", 7)));
    expect([...groupsOf(state, ada)].sort()).toEqual(["default", "named", "patterned"]);
  });

  test("heeds no group that is said to some alone, and none without nodes", () => {
    const state = fleet.state();
    take(state, sayResource(voice("olga"), group("edge", "*"), { to: { type: "group", name: "edge" } }));
    take(state, sayResource(voice("olga"), { ...group("none"), spec: { nodes: "ada" } }));
    take(state, sayResource(voice("olga"), { ...group("empty"), spec: null }));
    expect([...groupsOf(state, ada)]).toEqual(["default"]);
    expect(state.trustDomain).toBe(DOMAIN);
  });
});
