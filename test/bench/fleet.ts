// What a large fleet costs: a thousand simulated nodes on real connections to one NATS server, each with the whole roster, some with every resource too.

import { heapStats } from "bun:jsc";
import { readFileSync } from "node:fs";
import { writeBody } from "../../src/federation/body.ts";
import { draftResource } from "../../src/federation/resource_claim.ts";
import { signStatement } from "../../src/federation/statement.ts";
import { DOMAIN, sayNode, voice } from "../federation/fleet_fixture.ts";
import { type NatsServer, openPark } from "../fleet/nats_server.ts";
import { joinStorm } from "./fleet_join.ts";
import { connected, openState, openTransport, SharedGround, SimulatedNode, SPEAKER } from "./fleet_peer.ts";
import type { BenchResult } from "./section.ts";
import type { Row } from "./table.ts";

export interface FleetBenchOptions {
  readonly nodes: number;
  /** Of the nodes, those that hold every resource; the others have the roster alone. */
  readonly whole: number;
  readonly services: number;
  readonly rules: number;
  readonly joins: number;
  readonly rounds: number;
  readonly idleSeconds: number;
}

export type AddRow = (round: number, metric: string, value: number, peer?: string) => void;

/** Said while the server is away. */
const MISSED = 20;
const LOOK_MS = 20;
const SETTLE_MS = 10_000;

export async function benchFleet(options: FleetBenchOptions): Promise<BenchResult> {
  const park = openPark();
  const rows: Row[] = [];
  const row: AddRow = (round, metric, value, peer = "riprap") => void rows.push({ round, peer, metric, value });
  try {
    const server = await park.single();
    const grounds = makeGrounds(options, row);
    await storms(server, grounds, { options, row });
    await coldNode(server, grounds.whole, { options, row });
    await joinStorm(options.joins, row);
  } finally {
    await park.leave();
  }
  return { rows, reference: "bare NATS publish", circumstances: { ...options } };
}

interface Bench {
  readonly options: FleetBenchOptions;
  readonly row: AddRow;
}

interface Grounds {
  readonly roster: SharedGround;
  readonly whole: SharedGround;
}

function makeGrounds({ nodes, services, rules }: FleetBenchOptions, row: AddRow): Grounds {
  const speaker = voice(SPEAKER);
  const before = heapBytes();
  const members = Array.from({ length: nodes }, (_, i) => sayNode(speaker, `node-${i}`));
  const resources = [
    ...Array.from({ length: services }, (_, i) => signStatement(serviceDraft(i), speaker)),
    ...Array.from({ length: rules }, (_, i) => signStatement(policyDraft(i, 1), speaker)),
  ];
  const at = performance.now();
  const state = openState([...members, ...resources]);
  row(1, "a statement verified and taken, µs", ((performance.now() - at) * 1000) / state.size);
  row(1, "memory of a statement that stands, bytes", (heapBytes() - before) / state.size);
  return { roster: new SharedGround(members), whole: new SharedGround([...members, ...resources]) };
}

function heapBytes(): number {
  Bun.gc(true);
  return heapStats().heapSize;
}

/** The author, and all the others: what they say of themselves and compare is off until `idle`. */
async function storms(server: NatsServer, grounds: Grounds, { options, row }: Bench): Promise<void> {
  const { nodes, whole } = options;
  const names = Array.from({ length: nodes }, (_, i) => `node-${i}`);
  // Who has all compares with its like alone, and so do the others: two that differ by ten thousand resources would exchange them.
  const classes = [names.slice(0, whole), names.slice(whole)] as const;
  const before = process.memoryUsage.rss();
  const at = performance.now();
  const peers: SimulatedNode[] = [];
  for (const [index, name] of names.entries()) {
    const ground = index < whole ? grounds.whole : grounds.roster;
    const peersOf = classes[index < whole ? 0 : 1] as readonly string[];
    peers.push(new SimulatedNode(server, name, { state: ground.state(), peers: () => some(peersOf, name) }));
    // Otherwise the server would hear nothing of those that are there until all are.
    await Promise.resolve();
  }
  await Promise.all(peers.map(({ transport }) => connected(transport)));
  row(1, `${nodes} nodes made and connected, ms`, performance.now() - at);
  row(1, "memory of a simulated node, KiB", (process.memoryUsage.rss() - before) / nodes / 1024);
  const authors = [grounds.whole, grounds.roster].map(
    (ground, index) => new SimulatedNode(server, SPEAKER, { state: ground.state(), peers: () => classes[index] ?? [] }),
  );
  const [author, other] = authors as [SimulatedNode, SimulatedNode];
  await connected(author.transport);
  await other.transport.close();
  const fleet = { server, author, shadow: other.state, peers };
  await oneToAll(fleet, { options, row });
  await reconnectStorm(fleet, { options, row });
  await idle(fleet, { options, row });
  await Promise.all([...peers, author].map(({ transport }) => transport.close()));
}

interface RunningFleet {
  readonly server: NatsServer;
  readonly author: SimulatedNode;
  /** What the author has said, above the roster alone. */
  readonly shadow: SimulatedNode["state"];
  readonly peers: readonly SimulatedNode[];
}

/** A message to all nodes, and the moment at which the last has verified and taken it. */
async function oneToAll({ server, author, shadow, peers }: RunningFleet, { options, row }: Bench): Promise<void> {
  const bare = await openBare(server, peers);
  for (let round = 1; round <= options.rounds; round++) {
    for (const [metric, draft] of [
      ["one rule at the last node, ms", policyDraft(round, round + 1)],
      ["one revocation at the last node, ms", revocationDraft(`${round}`)],
    ] as const) {
      const all = heardByAll(peers);
      const at = performance.now();
      const statement = author.say(draft);
      await all;
      row(round, metric, performance.now() - at);
      shadow.apply(statement, Date.now());
      if (!metric.includes("revocation")) continue;
      row(round, metric, await bare.publish(statement.bytes.length + 200), "bare NATS publish");
    }
  }
  requireAgreement({ author, shadow, peers });
  await bare.close();
}

function heardByAll(peers: readonly SimulatedNode[]): Promise<void> {
  let waiting = peers.length;
  return new Promise((resolve) => {
    for (const peer of peers) {
      peer.onTaken = () => {
        peer.onTaken = () => undefined;
        waiting -= 1;
        if (waiting === 0) resolve();
      };
    }
  });
}

/** The same octets to as many subscribers that do nothing with them. */
async function openBare(server: NatsServer, peers: readonly SimulatedNode[]) {
  let waiting = 0;
  let done: () => void = () => undefined;
  const heard = peers.map(({ transport }) =>
    transport.subscribe("bare", () => {
      waiting -= 1;
      if (waiting === 0) done();
    }),
  );
  const speaker = openTransport(server, "bare");
  await connected(speaker);
  await Bun.sleep(500);
  return {
    async publish(size: number): Promise<number> {
      waiting = peers.length;
      const all = new Promise<void>((resolve) => (done = resolve));
      const at = performance.now();
      speaker.publish("bare", new Uint8Array(size));
      await all;
      return performance.now() - at;
    },
    async close() {
      for (const subscription of heard) subscription.close();
      await speaker.close();
    },
  };
}

/** The server goes, the author says more, the server comes: until every digest is the same again. */
async function reconnectStorm({ server, author, shadow, peers }: RunningFleet, { row }: Bench): Promise<void> {
  const stop = new AbortController();
  await server.kill();
  for (let i = 0; i < MISSED; i++) shadow.apply(author.say(revocationDraft(`missed-${i}`)), Date.now());
  const loops = [author, ...peers].map(({ rounds }) => rounds.run(stop.signal));
  const at = performance.now();
  await server.start();
  await Promise.all(peers.map(({ transport }) => connected(transport)));
  row(1, `${peers.length} nodes connect again after a restart of the server, ms`, performance.now() - at);
  const [whole, roster] = [author.state.root(), shadow.root()];
  while (peers.some(({ state }) => state.root() !== whole && state.root() !== roster)) await Bun.sleep(LOOK_MS);
  row(1, `all digests are equal again, with ${MISSED} revocations of meanwhile, ms`, performance.now() - at);
  stop.abort();
  await Promise.allSettled(loops);
}

/** Octets that the server has read and written, by the kernel's count, while nobody has anything to say. */
async function idle({ server, peers }: RunningFleet, { options, row }: Bench): Promise<void> {
  const stop = new AbortController();
  // To collect what a thousand nodes in one process have left takes seconds, in which none of them answers and all are asked again.
  Bun.gc(true);
  const loops = peers.map((peer) => peer.run(stop.signal));
  const seconds = options.idleSeconds;
  await Bun.sleep(SETTLE_MS);
  const unanswered = () => peers.reduce((sum, { rounds }) => sum + rounds.counters.failed, 0);
  const [before, failed] = [trafficOf(server), unanswered()];
  await Bun.sleep(seconds * 1000);
  const bytes = trafficOf(server) - before;
  row(
    1,
    `bytes per node per hour when nothing happens, of ${peers.length} nodes (by ${seconds} s)`,
    (bytes / peers.length / seconds) * 3600,
  );
  row(
    1,
    "questions that this machine had no time to answer meanwhile, per node per hour",
    ((unanswered() - failed) / peers.length / seconds) * 3600,
  );
  stop.abort();
  await Promise.allSettled(loops);
}

/** proc_pid_io(5): what went through read and write, sockets too. */
function trafficOf({ pid }: NatsServer): number {
  const text = readFileSync(`/proc/${pid}/io`, "utf8");
  return ["rchar", "wchar"].reduce(
    (sum, name) => sum + Number(new RegExp(`^${name}: (\\d+)$`, "m").exec(text)?.[1]),
    0,
  );
}

/** One node that knows everything, and one that comes with nothing. */
async function coldNode(server: NatsServer, ground: SharedGround, { options, row }: Bench): Promise<void> {
  const { nodes, services, rules } = options;
  const member = sayNode(voice(SPEAKER), "node-0");
  const none = () => [];
  const ends = [
    new SimulatedNode(server, SPEAKER, { state: ground.state(), peers: none }),
    new SimulatedNode(server, "node-0", { state: openState([member]), peers: none }),
  ] as const;
  await Promise.all(ends.map(({ transport }) => connected(transport)));
  await Bun.sleep(200);
  const at = performance.now();
  await ends[1].rounds.round([SPEAKER]);
  row(1, `a cold node converges to ${services + rules} resources of ${nodes} nodes, ms`, performance.now() - at);
  if (ends[0].state.root() !== ends[1].state.root()) throw new Error("the cold node did not converge");
  await Promise.all(ends.map(({ transport }) => transport.close()));
}

function requireAgreement({ author, shadow, peers }: Omit<RunningFleet, "server">): void {
  const roots = new Set([author.state.root(), shadow.root()]);
  if (!peers.every(({ state }) => roots.has(state.root()))) throw new Error("a node knows something else");
}

/** Three others by chance, as a node asks one after another. */
function some(names: readonly string[], self: string): readonly string[] {
  const draw = () => names[Math.floor(Math.random() * names.length)] ?? "";
  return [draw(), draw(), draw()].filter((name) => name !== self);
}

function revocationDraft(name: string) {
  const body = writeBody("revocation", { reason: "bench", keep: [] });
  return { kind: "revocation", name: `id:spiffe://${DOMAIN}/w/${name}`, time: Date.now(), body } as const;
}

function serviceDraft(i: number) {
  const addresses = [{ address: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, ports: [443] }];
  return draftOf("Service", `service-${i}`, { spec: { addresses }, revision: 1 });
}

function policyDraft(i: number, revision: number) {
  const egress = [{ to: [{ service: `service-${i}` }] }];
  const spec = { workloads: [`w/${i}`], mode: "enforce", egress };
  return draftOf("AccessPolicy", `policy-${i}`, { spec, revision });
}

function draftOf(kind: string, name: string, { spec, revision }: { spec: unknown; revision: number }) {
  const document = { apiVersion: "riprap.io/v1", kind, metadata: { name }, spec };
  return draftResource({ trustDomain: DOMAIN, document, scope: { type: "all" }, revision, time: Date.now() });
}
