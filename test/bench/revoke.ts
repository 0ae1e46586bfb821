// From a person's word to the last of a hundred peers: the fleet's statement over NATS, a bare NATS publish, and an event of serf's gossip; and what a revoked serial weighs.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeBody } from "../../src/federation/body.ts";
import { openStatementStore } from "../../src/federation/fleet_store.ts";
import { parseMessage, writeMessage } from "../../src/federation/message.ts";
import { signStatement } from "../../src/federation/statement.ts";
import { openStore, storePath } from "../../src/store.ts";
import { DOMAIN, voice } from "../federation/fleet_fixture.ts";
import { freePort, type NatsServer, openPark } from "../fleet/nats_server.ts";
import { connected, openGate, openState, openTransport, openVoice, SPEAKER, SUBJECTS } from "./fleet_peer.ts";
import { weighRevoked } from "./revoked_weight.ts";
import type { BenchResult } from "./section.ts";
import type { Row } from "./table.ts";

const PEERS = 100;
const METRIC = `revoke to applied at the last of ${PEERS} peers, ms`;
const BARE = "bare NATS publish";
const SERF = Bun.which("serf") ?? Bun.which("serf", { PATH: "/usr/bin:/usr/sbin" });
const SERF_PATIENCE_MS = 120_000;

export interface RevokeBenchOptions {
  readonly rounds: number;
}

export async function benchRevoke({ rounds }: RevokeBenchOptions): Promise<BenchResult> {
  const rows: Row[] = [];
  const park = openPark();
  const folder = mkdtempSync(join(tmpdir(), "riprap-bench-"));
  try {
    rows.push(...(await overNats(await park.single(), { rounds: 10 * rounds, folder })));
    if (SERF === null) process.stdout.write("serf is not installed (Debian package serf): its row is left out\n");
    else rows.push(...(await overSerf(SERF, rounds)));
    rows.push(...(await weighRevoked(folder)));
  } finally {
    await park.leave();
    rmSync(folder, { recursive: true, force: true });
  }
  return { rows, reference: BARE, circumstances: { peers: PEERS, rounds, serf: SERF !== null } };
}

/** Takes a message as a node does, its row on the disk included; true when it was new. */
type TakeMessage = (subject: string, data: Uint8Array) => boolean;

function openPeer(path?: string): TakeMessage {
  const state = openState([], path === undefined ? undefined : openStatementStore(openStore(path)));
  const gate = openGate(state, "peer");
  return (subject, data) => {
    const answer = gate.admit(data, { subject, now: Date.now() });
    if (!answer.ok) return false;
    const message = parseMessage(answer.envelope.type, answer.envelope.payload);
    const taken = message.type === "statements" ? state.applyAll(message.statements, Date.now()) : [];
    return taken.some(({ outcome }) => outcome.outcome === "accepted");
  };
}

async function overNats(server: NatsServer, { rounds, folder }: { rounds: number; folder: string }): Promise<Row[]> {
  const rows: Row[] = [];
  const transports = Array.from({ length: PEERS }, (_, i) => openTransport(server, `node-${i}`));
  const speaker = openTransport(server, SPEAKER);
  await Promise.all([...transports, speaker].map(connected));
  let hear: (peer: number, subject: string, data: Uint8Array) => void = () => undefined;
  for (const [i, transport] of transports.entries())
    transport.subscribe(SUBJECTS.allGossip, ({ subject, data }) => hear(i, subject, data));
  await Bun.sleep(300);
  const said = openVoice(SPEAKER);
  const signer = voice(SPEAKER);
  const state = openState();
  const subject = SUBJECTS.gossip(SPEAKER);
  let number = 0;
  const revocation = () => {
    number += 1;
    const body = writeBody("revocation", { reason: "bench", keep: [] });
    const draft = { kind: "revocation", name: `id:spiffe://${DOMAIN}/w/${number}`, time: Date.now(), body } as const;
    const payload = writeMessage({ type: "statements", statements: [signStatement(state.draft(draft, ""), signer)] });
    return said.seal({ subject, type: "statements", payload }, Date.now()).bytes;
  };
  const size = revocation().length;
  const whole = openPeer(storePath(folder));
  const all = Array.from({ length: PEERS }, () => openPeer());
  const ways: Readonly<Record<string, (done: () => void) => void>> = {
    [BARE](done) {
      hear = counted(PEERS, done);
      speaker.publish(subject, new Uint8Array(size));
    },
    // Each node has a machine of its own: the others have theirs, and the last to hear it verifies, applies and keeps it here.
    "riprap, a machine for each peer"(done) {
      hear = counted(PEERS, (data) => whole(subject, data) && done());
      speaker.publish(subject, revocation());
    },
    [`riprap, all ${PEERS} on this machine`](done) {
      const last = counted(PEERS, done);
      hear = (peer, on, data) => all[peer]?.(on, data) && last(peer, on, data);
      speaker.publish(subject, revocation());
    },
  };
  for (let round = 1; round <= rounds; round++) {
    // In turns: none of them is always the first after a pause.
    const order = round % 2 === 0 ? Object.entries(ways) : Object.entries(ways).reverse();
    for (const [peer, way] of order) rows.push({ round, peer, metric: METRIC, value: await timed(way) });
  }
  await Promise.all([...transports, speaker].map((transport) => transport.close()));
  return rows;
}

function counted(
  count: number,
  done: (data: Uint8Array) => void,
): (peer: number, subject: string, data: Uint8Array) => void {
  let left = count;
  return (_peer, _subject, data) => {
    left -= 1;
    if (left === 0) done(data);
  };
}

async function timed(start: (done: () => void) => void): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const at = performance.now();
  start(resolve);
  await promise;
  return performance.now() - at;
}

/** A query, which gossips as an event does; each agent acknowledges it to the one who asked when it has it. */
async function overSerf(serf: string, rounds: number): Promise<Row[]> {
  const agents: Bun.Subprocess[] = [];
  // An address of its own for each: the whole of 127.0.0.0/8 is this machine.
  const [bind, rpc] = [freePort(), freePort()];
  const start = (i: number) => {
    const join = i === 0 ? [] : [`-retry-join=127.77.0.1:${bind}`, "-retry-interval=1s"];
    const places = [`-bind=127.77.0.${i + 1}:${bind}`, `-rpc-addr=127.77.0.${i + 1}:${rpc}`];
    const quiet = { stdout: "ignore", stderr: "ignore", stdin: "ignore" } as const;
    agents.push(Bun.spawn([serf, "agent", `-node=peer-${i}`, ...places, ...join, "-log-level=err"], quiet));
  };
  try {
    for (let i = 0; i < PEERS; i++) start(i);
    await untilMembers(serf, rpc);
    const rows: Row[] = [];
    for (let round = 1; round <= rounds; round++)
      rows.push({ round, peer: "serf", metric: METRIC, value: await askAll(serf, { rpc, name: `revoke-${round}` }) });
    return rows;
  } finally {
    for (const agent of agents) agent.kill("SIGKILL");
    await Promise.all(agents.map(({ exited }) => exited));
  }
}

async function untilMembers(serf: string, rpc: number): Promise<void> {
  for (const end = performance.now() + SERF_PATIENCE_MS; performance.now() < end; await Bun.sleep(500)) {
    const { stdout } = Bun.spawnSync([serf, "members", `-rpc-addr=127.77.0.1:${rpc}`, "-status=alive"]);
    if (stdout.toString().trim().split("\n").length === PEERS) return;
  }
  throw new Error(`serf's ${PEERS} agents did not find one another`);
}

async function askAll(serf: string, { rpc, name }: { rpc: number; name: string }): Promise<number> {
  const at = performance.now();
  const query = Bun.spawn(
    [serf, "query", `-rpc-addr=127.77.0.1:${rpc}`, "-timeout=15s", name, "spiffe://example.org/w"],
    {
      stdout: "pipe",
      stderr: "ignore",
    },
  );
  let text = "";
  for await (const chunk of query.stdout) {
    text += Buffer.from(chunk).toString();
    if ((text.match(/Ack from/g)?.length ?? 0) < PEERS) continue;
    const took = performance.now() - at;
    query.kill("SIGKILL");
    return took;
  }
  throw new Error(`serf brought the query to fewer than ${PEERS} agents: ${text.slice(-200)}`);
}
