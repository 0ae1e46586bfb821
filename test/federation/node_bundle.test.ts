import { describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { listNodeKeys, writeNodeKeys } from "../../src/federation/node_bundle.ts";
import { signStatement } from "../../src/federation/statement.ts";
import { jwtKeyOf } from "../../src/trust_bundle.ts";
import { DOMAIN, makeFleet, NOW, outcomeOf, sayNode, sayRevoked, take, voice } from "./fleet_fixture.ts";

const fleet = makeFleet();
const keyOf = (keyId: string) => jwtKeyOf(generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey, keyId);
const say = (node: string, body: Uint8Array, by = node) =>
  signStatement({ trustDomain: DOMAIN, kind: "bundle", name: node, revision: 1, time: NOW, body }, voice(by));
const idsOf = (state: Parameters<typeof listNodeKeys>[0], except = "iris") =>
  listNodeKeys(state, { trustDomain: DOMAIN, except }).map(({ keyId }) => keyId);

describe("listNodeKeys()", () => {
  test("gives the keys of all other nodes, and those of a revoked node no more", () => {
    const state = fleet.state();
    take(state, say("ada", writeNodeKeys(DOMAIN, [keyOf("a1"), keyOf("a2")])));
    take(state, say("ben", writeNodeKeys(DOMAIN, [keyOf("b1")])));
    take(state, say("iris", writeNodeKeys(DOMAIN, [keyOf("i1")])));
    expect(idsOf(state)).toEqual(["a1", "a2", "b1"]);
    take(state, sayRevoked(voice("olga"), { type: "node", value: "ada" }));
    expect(idsOf(state)).toEqual(["b1"]);
  });

  test("leaves out a node that may not issue every ID: its tokens could name any", () => {
    const state = fleet.state();
    take(state, say("ada", writeNodeKeys(DOMAIN, [keyOf("a1")])));
    take(state, sayNode(voice("iris"), "ada", { idPrefixes: [`spiffe://${DOMAIN}/db/`] }, { revision: 2 }));
    expect(idsOf(state)).toEqual([]);
  });

  test("takes one key of a name, passes over what cannot be read, and bounds what one node says", () => {
    const state = fleet.state();
    take(
      state,
      say("ada", writeNodeKeys(DOMAIN, [keyOf("same"), ...Array.from({ length: 20 }, (_, n) => keyOf(`a${n}`))])),
    );
    take(state, say("ben", writeNodeKeys(DOMAIN, [keyOf("same")])));
    take(state, say("ivan", Buffer.from("{")));
    expect(idsOf(state).length).toBe(8);
    expect(new Set(idsOf(state)).size).toBe(8);
  });

  test("a node says nothing of another's keys, and none can speak under the name of the domain's", () => {
    const body = writeNodeKeys(DOMAIN, [keyOf("x")]);
    expect(outcomeOf(fleet.state(), say("ben", body, "ada"))).toBe("right_missing");
    expect(outcomeOf(fleet.state(), say("domain", body, "iris"))).toBe("body_invalid");
  });
});
