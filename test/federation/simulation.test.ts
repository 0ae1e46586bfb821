import { describe, expect, test } from "bun:test";
import { sealEnvelope } from "../../src/federation/envelope.ts";
import { listNodes, mayIssue, resourcesFor } from "../../src/federation/roster.ts";
import { parseStatement, type Statement, verifyStatement } from "../../src/federation/statement.ts";
import { draw, pick } from "../random.ts";
import {
  ALL,
  authorityId,
  DOMAIN,
  hex,
  makeRoot,
  NOW,
  SerialNumbers,
  say,
  sayNode,
  sayResource,
  sayRevoked,
  saySeen,
  saySet,
  service,
  voice,
} from "./fleet_fixture.ts";
import { type SimulatedNode, Simulation } from "./fleet_simulation.ts";

const NAMES = ["iris", "ivan", "n0", "n1", "n2", "n3", "n4", "n5"];
const HOUR = 3_600_000;

function grantsOf(root: ReturnType<typeof makeRoot>): Statement[] {
  const rights = {
    kinds: ["Service"],
    groups: undefined,
    idPrefixes: undefined,
    revoke: ["node", "id", "serial"] as const,
  };
  return [
    ...["iris", "ivan"].map((name) =>
      say(root, ["issuer", name], { key: hex(voice(name).publicKey), authority: undefined, idPrefixes: ALL }),
    ),
    ...["olga", "otto"].map((name) => say(root, ["operator", name], { key: hex(voice(name).publicKey), ...rights })),
    ...NAMES.map((name) => sayNode(voice("iris"), name)),
  ];
}

/** What a node that was taken over, and a stranger with the broker's credentials, try. */
function hostile(simulation: Simulation, to: SimulatedNode): Statement[] {
  const forged = Uint8Array.from(sayResource(voice("olga"), service("planted"), { revision: 99 }).bytes);
  forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
  const tried = [
    sayResource(voice("n0"), service("planted")),
    sayResource(voice("eve"), service("planted")),
    sayNode(voice("n0"), "eve"),
    sayRevoked(voice("n0"), { type: "node", value: to.name }),
    parseStatement(forged),
  ];
  for (const statement of tried) simulation.broadcast(simulation.find("n0"), [statement]);
  return tried;
}

/** A stranger who says that he is a node, at a later start than it ever had: who believes him hears the true one no more. */
function impersonate(simulation: Simulation, name: string): void {
  const liar = { publicKey: voice(name).publicKey, sign: voice("eve").sign };
  const subject = `gossip.${name}`;
  const rest = { type: "same", inReplyTo: "", payload: new Uint8Array() };
  const draft = { trustDomain: DOMAIN, subject, epoch: 1_000_000, sequence: 1, time: simulation.now, ...rest };
  const { bytes } = sealEnvelope(draft, liar);
  for (const to of simulation.nodes) if (to.name !== name) simulation.post(to, to, subject, bytes);
}

const SERIALS = new SerialNumbers(120);

/** A node takes back a serial number that it signed; now and then it says all that it took back as a set. Answers the serial number. */
function takeBack(simulation: Simulation, { name, second }: { name: string; second: number }): string {
  const node = simulation.find(name);
  const authority = authorityId(name);
  const ends = NOW + 2 * HOUR + 1000 * second;
  const value = SERIALS.hex(second);
  const target = { type: "serial", authority, value } as const;
  simulation.say(node, sayRevoked(voice(name), target, { expiresAt: ends }));
  if (second % 25 !== 24) return value;
  const singles = new Set(node.state.list("revocation").map(({ name: said }) => said));
  const set = SERIALS.set((index) => singles.has(`serial:${authority}:${SERIALS.hex(index)}`), { end: ends });
  simulation.say(node, saySet(voice(name), set, { authority }));
  return value;
}

/** One run: trouble for a minute and a half, then peace until all are equal. */
function run(seed: number) {
  const root = makeRoot();
  const simulation = new Simulation(NAMES, { root: root.publicKey, grants: grantsOf(root), seed });
  const { next } = simulation;
  const images = new Map(simulation.nodes.map((node) => [node.name, node.disk.copy()]));
  simulation.chaos = { dropped: 25, doubled: 15, delayed: 30 };
  const said: Statement[] = [];
  const takenBack: string[] = [];
  for (let second = 0; second < 90; second += 1) {
    const node = pick(next, simulation.nodes);
    const time = simulation.now;
    const operator = pick(next, ["olga", "otto"]);
    const name = `s${draw(next, 12)}`;
    const statement = sayResource(voice(operator), service(name, 1 + draw(next, 9)), {
      revision: (node.state.get("resource", `Service/${name}`)?.revision ?? 0) + 1,
      time,
    });
    said.push(statement);
    simulation.say(node, statement);
    const own = saySeen(node.name, { revision: (node.state.get("presence", node.name)?.revision ?? 0) + 1, time });
    simulation.say(node, own);
    takenBack.push(takeBack(simulation, { name: "n1", second }));
    // This one forgets, and finds what it said at the others.
    takeBack(simulation, { name: "n2", second });
    if (second % 10 === 0) for (const each of simulation.nodes) each.side = draw(next, 3);
    if (second === 20 || second === 25) simulation.restart(simulation.find("n2"));
    if (second === 30) simulation.find("n3").skew = HOUR;
    if (second === 35) said.push(...hostile(simulation, simulation.find("n1")));
    if (second === 37) impersonate(simulation, "n1");
    if (second === 40)
      simulation.say(simulation.find("n4"), sayRevoked(voice("olga"), { type: "node", value: "n5" }, { time }));
    if (second === 45)
      simulation.say(simulation.find("n2"), sayRevoked(voice("otto"), { type: "id", value: `${ALL[0]}db` }, { time }));
    if (second === 50) simulation.restart(simulation.find("n2"), images.get("n2"));
    if (second === 60) simulation.restart(simulation.find("n4"));
    if (second === 70)
      simulation.say(simulation.find("iris"), sayRevoked(voice("iris"), { type: "operator", value: "otto" }, { time }));
    simulation.tick();
  }
  for (const node of simulation.nodes) node.side = 0;
  simulation.find("n3").skew = 0;
  simulation.chaos = { dropped: 5, doubled: 5, delayed: 5 };
  const live = simulation.nodes.filter(({ name }) => name !== "n5");
  let rounds = 0;
  const isSettled = () =>
    simulation.find("n2").told.includes("rolled_back") && new Set(live.map(({ state }) => state.root())).size === 1;
  while (rounds < 120 && !isSettled()) {
    simulation.tick();
    rounds += 1;
  }
  return { simulation, live, rounds, takenBack };
}

describe.each([1, 2, 3])("seed %d", (seed) => {
  const { simulation, live, rounds, takenBack } = run(seed);

  test("all nodes that are not revoked come to one digest and one generation", () => {
    expect(rounds).toBeLessThan(120);
    expect(new Set(live.map(({ state }) => state.root())).size).toBe(1);
    expect(new Set(live.map(({ state }) => state.generation().digest)).size).toBe(1);
    const member = { name: "n1", groups: new Set<string>() };
    expect(
      new Set(
        live.map(({ state }) =>
          resourcesFor(state, member)
            .map(({ hash }) => hash)
            .join(),
        ),
      ).size,
    ).toBe(1);
  });

  test("nothing that is not signed, or not by right, stands anywhere", () => {
    for (const { state } of simulation.nodes) {
      expect(state.get("resource", "Service/planted")).toBeUndefined();
      expect(state.get("node", "eve")).toBeUndefined();
      expect(state.standing.revocationsOf("node:n1")).toEqual([]);
      for (const kind of ["resource", "node", "revocation", "presence"] as const) {
        for (const statement of state.list(kind)) expect(verifyStatement(statement)).toBe(true);
      }
    }
  });

  test("every serial number that a node took back is refused everywhere, most of them by a set, and no other is", () => {
    for (const { state } of live) {
      const refused = Array.from({ length: 120 }, (_, index) => SERIALS.hex(index)).filter((serial) => {
        const certificates = [{ serial, authority: authorityId("n1") }];
        return !mayIssue(state, { spiffeId: `spiffe://${DOMAIN}/web`, certificates }).ok;
      });
      expect(refused).toEqual(takenBack);
      expect(
        state.standing
          .setsOf([authorityId("n1")])
          .map(({ set }) => set.count)
          .sort(),
      ).toEqual([25, 25, 25]);
      const singles = state.list("revocation").filter(({ name }) => name.startsWith(`serial:${authorityId("n1")}`));
      expect(singles).toHaveLength(15);
      expect(state.standing.setsOf([authorityId("n2")]).length).toBeGreaterThan(1);
    }
  });

  test("nothing that is revoked is accepted: not the node, its word, its workloads, nor an operator's rules", () => {
    const path = (name: string, id: string) => ({
      spiffeId: `spiffe://${DOMAIN}/${id}`,
      certificates: [{ serial: "01", authority: authorityId(name) }],
    });
    for (const { state, gate } of live) {
      expect(listNodes(state).find(({ name }) => name === "n5")?.state).toBe("revoked");
      expect(state.get("presence", "n5")).toBeUndefined();
      expect(mayIssue(state, path("n5", "web"))).toMatchObject({ ok: false, code: "node_revoked" });
      expect(mayIssue(state, path("n1", "web"))).toMatchObject({ ok: true, node: "n1" });
      for (const { body } of [...state.standing.grants("operator")].filter(({ name }) => name === "otto")) {
        expect(state.list("resource").some(({ author }) => hex(author) === body.key)).toBe(false);
      }
      const { bytes } = simulation
        .find("n5")
        .voice.seal({ subject: "gossip.n5", type: "same", payload: new Uint8Array() }, simulation.now);
      expect(gate.admit(bytes, { subject: "gossip.n5", now: simulation.now })).toMatchObject({
        code: "author_revoked",
      });
    }
  });

  test("every node that is not revoked is heard by every other, whoever spoke in its name", () => {
    for (const speaker of live) {
      const subject = `gossip.${speaker.name}`;
      const { bytes } = speaker.voice.seal({ subject, type: "same", payload: new Uint8Array() }, simulation.now);
      for (const { name, gate } of live.filter((each) => each !== speaker))
        expect([name, gate.admit(bytes, { subject, now: simulation.now })]).toMatchObject([name, { ok: true }]);
    }
  });

  test("the node with the wrong clock and the one from an old image were told, and are heard again", () => {
    expect(simulation.find("n3").told.some((code) => code === "from_future" || code === "stale")).toBe(true);
    expect(simulation.find("n2").told).toContain("rolled_back");
    for (const name of ["n2", "n3"]) {
      const { bytes } = simulation
        .find(name)
        .voice.seal({ subject: `gossip.${name}`, type: "same", payload: new Uint8Array() }, simulation.now);
      const answer = simulation.find("n1").gate.admit(bytes, { subject: `gossip.${name}`, now: simulation.now });
      expect(answer).toMatchObject({ ok: true, node: name });
    }
  });
});
