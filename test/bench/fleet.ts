// What a large fleet costs: a thousand simulated nodes on real connections to one NATS server, each verifying what it takes, and one node that knows it all.

import { systemClock } from "../../src/clock.ts";
import { AntiEntropy, ROUND_EVERY_MS } from "../../src/daemon/fleet/anti_entropy.ts";
import { Wire } from "../../src/daemon/fleet/wire.ts";
import type { Log } from "../../src/daemon/log.ts";
import { writeBody } from "../../src/federation/body.ts";
import { parseMessage, writeMessage } from "../../src/federation/message.ts";
import { draftResource } from "../../src/federation/resource_claim.ts";
import { authorOf } from "../../src/federation/roster.ts";
import { type Statement, signStatement } from "../../src/federation/statement.ts";
import { DOMAIN, sayNode, voice } from "../federation/fleet_fixture.ts";
import { openFleetPark } from "../fleet/fleet_park.ts";
import { type NatsServer, openPark } from "../fleet/nats_server.ts";
import { connected, openGate, openState, openTransport, openVoice, SPEAKER, SUBJECTS } from "./fleet_peer.ts";
import type { BenchResult } from "./section.ts";
import type { Row } from "./table.ts";

export interface FleetBenchOptions {
  readonly nodes: number;
  readonly services: number;
  readonly rules: number;
  readonly joins: number;
  readonly rounds: number;
}

const AT_ONCE = 5;
const QUIET: Log = { error() {}, warn() {}, info() {}, debug() {} };

export async function benchFleet(options: FleetBenchOptions): Promise<BenchResult> {
  const park = openPark();
  const rows: Row[] = [];
  const row = (round: number, metric: string, value: number, peer = "riprap") =>
    void rows.push({ round, peer, metric, value });
  try {
    const server = await park.single();
    await storm(server, options, row);
    await coldNode(server, options, row);
    await joinStorm(options, row);
    idle(options, row);
  } finally {
    await park.leave();
  }
  return { rows, reference: "bare NATS publish", circumstances: { ...options } };
}

type AddRow = (round: number, metric: string, value: number, peer?: string) => void;

/** A message to all nodes, and the moment at which the last has verified and taken it. */
async function storm(server: NatsServer, { nodes, rounds }: FleetBenchOptions, row: AddRow): Promise<void> {
  let waiting = 0;
  let done: () => void = () => undefined;
  const took = () => {
    waiting -= 1;
    if (waiting === 0) done();
  };
  const all = (count: number) => {
    waiting = count;
    return new Promise<void>((resolve) => (done = resolve));
  };
  const begun = performance.now();
  const peers = Array.from({ length: nodes }, (_, i) => openTransport(server, `node-${i}`));
  await Promise.all(peers.map(connected));
  row(1, `${nodes} nodes connect, ms`, performance.now() - begun);
  const before = process.memoryUsage.rss();
  for (const transport of peers) {
    const state = openState();
    const gate = openGate(state);
    transport.subscribe(SUBJECTS.allGossip, ({ subject, data }) => {
      const answer = gate.admit(data, { subject, now: Date.now() });
      if (!answer.ok) return;
      const message = parseMessage(answer.envelope.type, answer.envelope.payload);
      const taken = message.type === "statements" ? state.applyAll(message.statements, Date.now()) : [];
      if (taken.some(({ outcome }) => outcome.outcome === "accepted")) took();
    });
    transport.subscribe("bare", took);
  }
  row(1, "memory of a simulated node beside its connection, KiB", (process.memoryUsage.rss() - before) / nodes / 1024);
  const speaker = openTransport(server, SPEAKER);
  await connected(speaker);
  await Bun.sleep(500);
  const said = openVoice(SPEAKER);
  const state = openState();
  const subject = SUBJECTS.gossip(SPEAKER);
  const publish = (statement: Statement) => {
    const payload = writeMessage({ type: "statements", statements: [statement] });
    const { bytes } = said.seal({ subject, type: "statements", payload }, Date.now());
    speaker.publish(subject, bytes);
    return bytes.length;
  };
  for (let round = 1; round <= rounds; round++) {
    const rule = signStatement(policyDraft(round, round), voice(SPEAKER));
    const id = { kind: "revocation", name: `id:spiffe://${DOMAIN}/w/${round}`, time: Date.now() } as const;
    const body = writeBody("revocation", { reason: "bench", keep: [] });
    const revocation = signStatement(state.draft({ ...id, body }, ""), voice(SPEAKER));
    let size = 0;
    for (const [metric, statement] of [
      ["one rule at the last node, ms", rule],
      ["one revocation at the last node, ms", revocation],
    ] as const) {
      const at = performance.now();
      const end = all(nodes);
      size = publish(statement);
      await end;
      row(round, metric, performance.now() - at);
    }
    const at = performance.now();
    const end = all(nodes);
    speaker.publish("bare", new Uint8Array(size));
    await end;
    row(round, "one revocation at the last node, ms", performance.now() - at, "bare NATS publish");
  }
  await server.kill();
  const at = performance.now();
  await server.start();
  await Promise.all(peers.map(connected));
  row(1, `${nodes} nodes connect again after a restart of the server, ms`, performance.now() - at);
  await Promise.all([...peers, speaker].map((transport) => transport.close()));
}

/** One node that knows everything, and one that comes with nothing. */
async function coldNode(server: NatsServer, { nodes, services, rules }: FleetBenchOptions, row: AddRow): Promise<void> {
  const speaker = voice(SPEAKER);
  const members = Array.from({ length: nodes }, (_, i) => sayNode(speaker, `node-${i}`));
  const resources = [
    ...Array.from({ length: services }, (_, i) => signStatement(serviceDraft(i), speaker)),
    ...Array.from({ length: rules }, (_, i) => signStatement(policyDraft(i, 1), speaker)),
  ];
  const before = process.memoryUsage.rss();
  let at = performance.now();
  const whole = openState([...members, ...resources]);
  row(1, "a statement verified and taken, µs", ((performance.now() - at) * 1000) / whole.size);
  row(1, "memory of a statement that stands, bytes", Math.max(0, process.memoryUsage.rss() - before) / whole.size);
  const ends = [endOf(server, SPEAKER, whole), endOf(server, "node-0", openState(members.slice(0, 1)))] as const;
  await Promise.all(ends.map(({ transport }) => connected(transport)));
  await Bun.sleep(200);
  at = performance.now();
  const result = await ends[1].rounds.round(SPEAKER);
  row(1, `a cold node converges to ${services + rules} resources of ${nodes} nodes, ms`, performance.now() - at);
  if (result === undefined || whole.root() !== ends[1].state.root()) throw new Error("the cold node did not converge");
  await Promise.all(ends.map(({ transport }) => transport.close()));
}

function endOf(server: NatsServer, node: string, state: ReturnType<typeof openState>) {
  const transport = openTransport(server, node);
  const take = (statements: readonly Statement[]) =>
    state.applyAll(statements, Date.now()).filter(({ outcome }) => outcome.outcome === "accepted").length;
  const wire: Wire = new Wire({
    ...{
      transport,
      gate: openGate(state),
      voice: openVoice(node),
      subjects: SUBJECTS,
      node,
      clock: systemClock,
      log: QUIET,
    },
    nodeOf: (key) => authorOf(state, key)?.node,
    onBroadcast: () => undefined,
    onAsk: (said) => rounds.answer(said),
    onGap: () => undefined,
    onRecovered: () => undefined,
  });
  const rounds: AntiEntropy = new AntiEntropy({
    ...{ state, wire, clock: systemClock, log: QUIET, random: Math.random, take },
    peers: () => [SPEAKER],
  });
  return { transport, state, rounds };
}

/** Whole joins, certificates and all, by one issuing daemon. */
async function joinStorm({ joins }: FleetBenchOptions, row: AddRow): Promise<void> {
  const nats = openPark();
  const fleet = await openFleetPark([await nats.single()], 1, 1);
  const [issuer] = fleet.nodes;
  if (issuer === undefined) throw new RangeError("a park has a node");
  const tokens: string[] = [];
  for (let i = 0; i < joins; i++) tokens.push(await issuer.token());
  const at = performance.now();
  // All machines are in this process: more of them at once would only wait for one another.
  for (let i = 0; i < joins; i += AT_ONCE)
    await Promise.all(
      tokens
        .slice(i, i + AT_ONCE)
        .map((token, j) => issuer.join(token, { nodeName: `guest-${i + j}`, elsewhere: true })),
    );
  row(
    1,
    `joins at one issuing node, per second (${joins}, ${AT_ONCE} at once, all machines in this process)`,
    (joins * 1000) / (performance.now() - at),
  );
  await fleet.leave();
  await nats.leave();
}

/** By the sizes of real messages: presence of every node, and this node's own comparisons. */
function idle({ nodes }: FleetBenchOptions, row: AddRow): void {
  const speaker = openVoice(SPEAKER);
  const body = writeBody("presence", {
    addresses: ["10.0.0.1"],
    version: "0.1.0",
    applied: { number: 1, digest: "0".repeat(16) },
    failure: undefined,
  });
  const presence = signStatement(
    { trustDomain: DOMAIN, kind: "presence", name: SPEAKER, revision: 1, time: Date.now(), body },
    voice(SPEAKER),
  );
  const subject = SUBJECTS.gossip(SPEAKER);
  const payload = writeMessage({ type: "statements", statements: [presence] });
  const broadcast = speaker.seal({ subject, type: "statements", payload }, Date.now()).bytes.length;
  const ask = speaker.seal({ subject: SUBJECTS.ask(SPEAKER), type: "root", payload: new Uint8Array(16) }, Date.now())
    .bytes.length;
  const everyMs = Math.min(3_600_000, Math.max(30_000, nodes * 1000));
  const heard = (3_600_000 / everyMs) * nodes * broadcast;
  const compared = (3_600_000 / ROUND_EVERY_MS) * 2 * 2 * ask;
  row(1, "bytes of one presence", broadcast);
  row(
    1,
    `bytes per node per hour when nothing happens, of ${nodes} nodes (computed from message sizes)`,
    heard + compared,
  );
}

function serviceDraft(i: number) {
  const addresses = [{ address: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, ports: [443] }];
  const document = {
    apiVersion: "riprap.io/v1",
    kind: "Service",
    metadata: { name: `service-${i}` },
    spec: { addresses },
  };
  return draftResource({ trustDomain: DOMAIN, document, scope: { type: "all" }, revision: 1, time: Date.now() });
}

function policyDraft(i: number, revision: number) {
  const egress = [{ to: [{ service: `service-${i}` }] }];
  const document = {
    apiVersion: "riprap.io/v1",
    kind: "AccessPolicy",
    metadata: { name: `policy-${i}` },
    spec: { workloads: [`w/${i}`], mode: "enforce", egress },
  };
  return draftResource({ trustDomain: DOMAIN, document, scope: { type: "all" }, revision, time: Date.now() });
}
