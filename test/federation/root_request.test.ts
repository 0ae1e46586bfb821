import { describe, expect, test } from "bun:test";
import {
  describeRootRequest,
  grantRootRequest,
  parseRootAnswer,
  parseRootRequest,
  type RootRequest,
  writeRootAnswer,
  writeRootRequest,
} from "../../src/federation/root_request.ts";
import { draw, random } from "../random.ts";
import {
  ALL,
  authorityId,
  DOMAIN,
  hex,
  makeFleet,
  makeRoot,
  NOW,
  outcomeOf,
  sayResource,
  service,
  take,
  voice,
} from "./fleet_fixture.ts";

const fleet = makeFleet();
const REQUEST: RootRequest = {
  trustDomain: DOMAIN,
  node: "ada",
  csr: "",
  asks: [
    {
      kind: "issuer",
      name: "ada",
      revision: 1,
      body: { key: hex(voice("ada").publicKey), authority: undefined, idPrefixes: ALL },
    },
    {
      kind: "operator",
      name: "gina",
      revision: 2,
      body: {
        key: hex(voice("gina").publicKey),
        kinds: ["Service"],
        groups: ["edge"],
        idPrefixes: undefined,
        revoke: ["id"],
      },
    },
  ],
};

const ENDING: RootRequest = {
  ...REQUEST,
  asks: [{ kind: "revocation", name: "issuer:ivan", revision: 1, body: { reason: "sold", keep: ["ab".repeat(16)] } }],
};

const invalid = expect.objectContaining({ code: "root_document_invalid" });

describe("root request", () => {
  test("parseRootRequest() reads what writeRootRequest() writes, and says to a person what it gives", () => {
    expect(parseRootRequest(writeRootRequest(REQUEST))).toEqual(REQUEST);
    const [issuer, operator] = describeRootRequest(REQUEST);
    expect(issuer).toContain("node ada admits nodes that issue spiffe://example.org/");
    expect(operator).toContain("operator gina sets Service for the groups edge, about any ID, ");
    expect(operator).toContain("under names that begin with gina., and revokes id");
    expect(describeRootRequest({ ...REQUEST, csr: "x" })[0]).toContain("signs the intermediates of nodes");
  });

  test("grantRootRequest() gives statements that a fleet takes from its root alone", () => {
    const statements = grantRootRequest(REQUEST, fleet.root, { time: NOW, authority: authorityId("issuing") });
    const state = fleet.state();
    for (const statement of statements) take(state, statement);
    expect(state.standing.grantOf("issuer", "ada")?.body.authority).toBe(authorityId("issuing"));
    take(state, sayResource(voice("gina"), service("gina.web"), { to: { type: "group", name: "edge" } }));
    const [forged] = grantRootRequest(REQUEST, makeRoot("another"), { time: NOW, authority: undefined });
    expect(forged === undefined ? "" : outcomeOf(fleet.state(), forged)).toBe("root_unknown");
  });

  test("grantRootRequest() ends an issuing node, which only the root can", () => {
    expect(parseRootRequest(writeRootRequest(ENDING))).toEqual(ENDING);
    expect(describeRootRequest(ENDING)).toEqual(["issuer:ivan is revoked for ever (sold); 1 of its statements stand"]);
    const state = fleet.state();
    for (const statement of grantRootRequest(ENDING, fleet.root, { time: NOW, authority: undefined }))
      take(state, statement);
    expect(state.standing.revocationsOf("issuer:ivan").length).toBe(1);
    expect(() => parseRootRequest(writeRootRequest(ENDING).replace("issuer:ivan", "ivan"))).toThrow(invalid);
  });

  test("parseRootAnswer() reads what writeRootAnswer() writes", () => {
    const answer = { trustDomain: DOMAIN, certificates: "PEM", statements: fleet.grants.map(({ bytes }) => bytes) };
    expect(parseRootAnswer(writeRootAnswer(answer))).toEqual(answer);
  });

  test("parseRootRequest() and parseRootAnswer() refuse what is unknown, twice, of another kind or too long", () => {
    const text = writeRootRequest(REQUEST);
    for (const wrong of [
      "",
      "[]",
      text.replace("riprap-root-request", "riprap-root-answer"),
      text.replace('"version": 1', '"version": 2'),
      text.replace('"node"', '"nodes"'),
      text.replace('"node": "ada"', '"node": "ada", "node": "eve"'),
      text.replace('"kind": "issuer"', '"kind": "node"'),
      text.replace('"revision": 1', '"revision": 0'),
      text.replace('"revoke"', '"forget"'),
      `${text}${" ".repeat(300_000)}`,
    ]) {
      expect(() => parseRootRequest(wrong)).toThrow(invalid);
    }
    expect(() => parseRootAnswer(text)).toThrow(invalid);
    expect(() =>
      parseRootAnswer(
        writeRootAnswer({ trustDomain: DOMAIN, certificates: "", statements: [] }).replace("[]", '["*"]'),
      ),
    ).toThrow(invalid);
  });

  test("parseRootRequest() throws nothing but a RiprapError on mangled text", () => {
    const next = random(31);
    const text = writeRootRequest(REQUEST);
    for (let round = 0; round < 1500; round += 1) {
      const at = draw(next, text.length);
      const mangled = text.slice(0, at) + String.fromCharCode(32 + draw(next, 95)) + text.slice(at + draw(next, 3));
      try {
        parseRootRequest(mangled);
      } catch (thrown) {
        expect(thrown).toMatchObject({ name: "RiprapError" });
      }
    }
  });
});
