// The fleet on one segment: a third node joins by a token over NATS, rules without an address, a revocation, a broker that stops, a node that was away.
import type { FleetStatusView } from "../../../src/daemon/fleet/port.ts";
import type { VmProcess } from "../lab/agent.ts";
import { bootNode, type RiprapNode } from "../node.ts";
import { idOf } from "./rule.ts";
import { ALICE, checkCapture, during, type Scene, SECRET } from "./scene.ts";

const NATS_PORT = 4222;
const PORT = 8100;
const DIR = "/srv/fleet";
const SCRIPTS: Readonly<Record<string, string>> = {
  // Says a line five times a second to whoever connects, for as long as that lives.
  "server.py": `import socketserver, time
class Line(socketserver.BaseRequestHandler):
    def handle(self):
        while True:
            self.request.sendall(b"${SECRET}\\n")
            time.sleep(0.2)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
Server(("0.0.0.0", ${PORT}), Line).serve_forever()
`,
  // Reads until the connection ends, and says how it did.
  "client.py": `import socket, sys
try:
    with socket.create_connection((sys.argv[1], ${PORT}), timeout=30) as peer:
        lines = peer.makefile()
        for line in lines:
            print("heard", line.strip(), flush=True)
    print("ended: closed", flush=True)
except OSError as error:
    print("ended:", error, flush=True)
`,
};

/** No address stands in any of them. */
const RULES = `${identity("fleet-server", "fleet/server", `${DIR}/server.py`)}---
${identity("fleet-client", "fleet/client", `${DIR}/client.py`)}---
${identity("fleet-reader", "fleet/reader", `${DIR}/reader.py`)}---
apiVersion: riprap.io/v1
kind: Service
metadata: { name: line }
spec:
  addresses: [{ workload: fleet/server }]
---
${policy("fleet-readers-may", '["fleet/client", "fleet/reader"]', "egress: [{ to: [{ service: line, peer: fleet/server }] }]")}---
${policy("fleet-server-by", '["fleet/server"]', 'ingress: [{ from: [{ peer: ["fleet/client", "fleet/reader"] }] }]')}`;
/** What changes while a node is away: the reader may no more. */
const CHANGED = policy("fleet-readers-may", '["fleet/client", "fleet/reader"]', "egress: []");

export interface FleetScene extends Scene {
  gamma: RiprapNode;
  broker: VmProcess;
}

/** The first node with a broker beside it, and the second that joins before it has ever run. */
export async function twoNodesJoin(scene: Scene): Promise<VmProcess> {
  const { alpha, beta } = scene;
  const broker = startBroker(alpha);
  // The broker was there before the module: until it is looked at, what it accepts makes its listener a managed socket, which nothing unloads.
  await alpha.start();
  await alpha.vm.waitFor("grep -q 'run already are looked at' /var/log/riprap.log");
  await alpha.stopDaemon();
  await alpha.writeConfig(`unknownMode: enforce\nnatsServers: nats://${alpha.vm.address}:${NATS_PORT}\n`);
  await alpha.start();
  await join(scene, beta);
  return broker;
}

export async function thirdNodeJoins(scene: Scene, broker: VmProcess): Promise<FleetScene> {
  const { alpha, beta, story, segment } = scene;
  const gamma = await bootNode({ kernel: "6.12", name: "gamma", segment, memoryChecks: false });
  const token = await join(scene, gamma);
  await gamma.vm.put("/root/token", token, "600");
  const again = await gamma.vm.run("riprap join - --node other --state-dir /root/other </root/token", {
    timeout: 120_000,
  });
  story.check("the token is worth nothing a second time", again.code === 1, again.stderr);
  for (const node of [beta, gamma]) {
    for (const [name, text] of Object.entries(SCRIPTS)) await node.vm.put(`${DIR}/${name}`, text);
    await node.vm.check(`cp ${DIR}/client.py ${DIR}/reader.py`);
  }
  const status = await fleetStatus(alpha);
  const active = status.nodes.filter(({ state }) => state === "active").map(({ name }) => name);
  story.check("alpha's roster has all three", active.join() === "alpha,beta,gamma", active.join(", "));
  return { ...scene, gamma, broker };
}

/** By one command, without a file; its token. */
async function join({ alpha, story }: Scene, node: RiprapNode): Promise<string> {
  const { name } = node.vm;
  const token = (await alpha.riprap("token", "create", "--ttl", "10m", "--node", name)).stdout;
  const words = ["riprap", "join", "-", "--node", name, "--json"];
  const joined = await node.vm.run(words, { stdin: token, timeout: 120_000 });
  const answer = joined.code === 0 ? (JSON.parse(joined.stdout) as { milliseconds: number }) : undefined;
  const seen = answer === undefined ? joined.stderr : `${answer.milliseconds} ms under emulation`;
  story.check(`${name} joins by a token, and no file is carried`, answer !== undefined, seen);
  await node.start();
  return token;
}

export async function rulesWithoutAddress(scene: FleetScene): Promise<VmProcess> {
  const { alpha, beta, gamma, story } = scene;
  await alpha.vm.put("/root/fleet.yaml", RULES);
  const said = await alpha.riprap("apply", "--fleet", "-f", "/root/fleet.yaml");
  story.note(said.stdout.split("\n")[0] ?? "");
  await allCurrent(scene);
  scene.servers.set("web", beta.vm.spawn(`exec python3 ${DIR}/server.py >/var/log/line.log 2>&1`));
  await beta.vm.waitFor(`ss -Hltn sport = :${PORT} | grep -q .`, 60_000);
  await endpointKnown(scene);
  let client: VmProcess | undefined;
  const capture = await during(scene, async () => {
    client = gamma.vm.spawn(["python3", `${DIR}/client.py`, beta.vm.address ?? ""], { uid: ALICE });
    const heard = await client.waitOutput(/heard .*|ended.*/);
    story.check("a program on gamma hears one on beta", heard[0] === `heard ${SECRET}`, heard[0]);
  });
  checkCapture(scene, capture, PORT);
  const flow = (await gamma.flowsOf({ own: idOf("fleet/client"), peer: idOf("fleet/server") })).at(-1);
  story.check("gamma's flow names both IDs and TLS 1.3", flow?.tls === "TLS 1.3", flow?.rule);
  if (client === undefined) throw new RangeError("the client was not started");
  return client;
}

export async function revokedOnTheThird(scene: FleetScene, client: VmProcess): Promise<void> {
  const { alpha, beta, gamma, story } = scene;
  story.check("the connection lives", client.running);
  const target = idOf("fleet/client");
  const typed = performance.now();
  const cut = client.waitOutput(/ended.*/).then(() => performance.now());
  const said = await alpha.riprap("revoke", target, "--reason", "stolen laptop");
  const returned = performance.now();
  const statement = /statement ([0-9a-f]{64})/.exec(said.stdout)?.[1] ?? "";
  const took = (await cut) - typed;
  await client.exited;
  story.check(
    "riprap revoke on alpha ends the connection between gamma and beta",
    !client.running && /^ended/m.test(client.stdout),
    client.stdout.split("\n").at(-2),
  );
  const command = Math.round(returned - typed);
  story.note(
    `from the command to the cut: ${Math.round(took)} ms under emulation, where the command itself takes ${command} ms`,
  );
  const named = new Set<string>();
  for (const node of [beta, gamma]) {
    const [own, peer] = node === beta ? ["fleet/server", "fleet/client"] : ["fleet/client", "fleet/server"];
    const flow = (await node.flowsOf({ own: idOf(own ?? ""), peer: idOf(peer ?? "") })).at(-1);
    story.check(
      `${node.vm.name}'s record of it has ended`,
      flow?.state !== "open",
      `${flow?.state} ${flow?.reason} ${flow?.statement ?? ""}`,
    );
    if (flow?.statement !== undefined) named.add(flow.statement);
  }
  // The end that hears of it first cuts; the other may only see how.
  story.check("the end that cut says by which statement", named.has(statement), statement);
  story.note(
    `from the word's arrival to the cut: ${await cutTime(beta)} ms on beta, ${await cutTime(gamma)} ms on gamma`,
  );
  const again = await gamma.vm.run(["python3", `${DIR}/client.py`, beta.vm.address ?? ""], {
    uid: ALICE,
    timeout: 60_000,
  });
  story.check("and the program gets no connection any more", !again.stdout.includes("heard"), again.stdout);
}

export async function brokerStops(scene: FleetScene): Promise<void> {
  const { alpha, beta, gamma, story } = scene;
  const lasting = gamma.vm.spawn(["python3", `${DIR}/reader.py`, beta.vm.address ?? ""], { uid: ALICE });
  await lasting.waitOutput(/heard .*|ended.*/);
  scene.broker.kill("KILL");
  await scene.broker.exited;
  const reader = gamma.vm.spawn(["python3", `${DIR}/reader.py`, beta.vm.address ?? ""], { uid: ALICE });
  const heard = await reader.waitOutput(/heard .*|ended.*/);
  story.check("without NATS a new program is attested and connects", heard[0] === `heard ${SECRET}`, heard[0]);
  await gamma.stopDaemon();
  await gamma.start();
  const before = linesHeard(lasting);
  await lasting.waitOutput(new RegExp(`(heard .*\\n){${before + 5}}|ended.*`));
  story.check(
    "a connection from before lives on without NATS, and through the restart of a daemon",
    lasting.running && linesHeard(lasting) > before,
    `${before} lines heard, then ${linesHeard(lasting)}`,
  );
  const status = await fleetStatus(gamma);
  const known = status.nodes.length === 3 && status.revocations.length > 0;
  story.check(
    "a daemon that starts without NATS knows roster and revocations",
    known,
    `${status.state}: ${status.reason}`,
  );
  reader.kill("KILL");
  lasting.kill("KILL");
  scene.broker = startBroker(alpha);
}

export async function nodeWasAway(scene: FleetScene): Promise<void> {
  const { alpha, gamma, story } = scene;
  await allCurrent(scene);
  await gamma.vm.check("ip link set eth0 down");
  await alpha.vm.put("/root/changed.yaml", CHANGED);
  await alpha.riprap("apply", "--fleet", "-f", "/root/changed.yaml");
  await current(scene, "beta");
  const away = (await fleetStatus(alpha)).nodes.find(({ name }) => name === "gamma");
  story.check("gamma is away and has the old rules", away?.isCurrent === false, `applied ${away?.applied?.number}`);
  await gamma.vm.check(`ip link set eth0 up && ip -6 addr add ${gamma.vm.address6}/64 dev eth0 nodad || true`);
  const begun = performance.now();
  await current(scene, "gamma");
  const took = Math.round(performance.now() - begun);
  const back = (await fleetStatus(alpha)).nodes.find(({ name }) => name === "gamma");
  story.check(
    "back again, it has the new ones",
    back?.isCurrent === true && back.applied?.digest !== away?.applied?.digest,
    `applied ${back?.applied?.number}, after ${took} ms under emulation`,
  );
  const reader = await gamma.vm.run(["python3", `${DIR}/reader.py`, scene.beta.vm.address ?? ""], { uid: ALICE });
  story.check("and enforces them", !reader.stdout.includes("heard"), reader.stdout);
}

function linesHeard(process: VmProcess): number {
  return process.stdout.split("\n").filter((line) => line.startsWith("heard")).length;
}

function startBroker(node: RiprapNode): VmProcess {
  return node.vm.spawn(`exec nats-server -a 0.0.0.0 -p ${NATS_PORT} >>/var/log/nats.log 2>&1`);
}

async function fleetStatus(node: RiprapNode): Promise<FleetStatusView> {
  return JSON.parse((await node.riprap("fleet", "status", "--json")).stdout) as FleetStatusView;
}

async function allCurrent(scene: FleetScene): Promise<void> {
  for (const name of ["alpha", "beta", "gamma"]) await current(scene, name);
}

/** Until alpha has heard that the node applied what the fleet wants now. */
async function current({ alpha }: FleetScene, node: string): Promise<void> {
  const limit = performance.now() + 90_000;
  while (performance.now() < limit) {
    const { nodes } = await fleetStatus(alpha);
    if (nodes.find(({ name }) => name === node)?.isCurrent === true) return;
  }
  throw new RangeError(`${node} did not apply what the fleet wants`);
}

/** Until gamma's rules know where the service is. */
async function endpointKnown({ beta, gamma }: FleetScene): Promise<void> {
  const limit = performance.now() + 60_000;
  while (performance.now() < limit) {
    const words = ["--from", idOf("fleet/client"), "--to", `${beta.vm.address}:${PORT}`];
    if ((await gamma.ask("explain", ...words)).verdict === "allow") return;
  }
  throw new RangeError("the address of the service did not reach gamma");
}

/** Between two lines of one daemon's log. */
async function cutTime(node: RiprapNode): Promise<string> {
  const log = await node.vm.run("grep -E 'word was taken|cut off|refused an identity' /var/log/riprap.log");
  const lines = log.stdout.split("\n").filter((line) => line.startsWith("{"));
  const parsed = lines.map((line) => JSON.parse(line) as { time: string; event: string; what?: string });
  const told = parsed.findLastIndex(({ what }) => what === "revoked");
  const done = parsed.find(({ event }, i) => i > told && /cut off|refused an identity/.test(event));
  const told_at = parsed[told]?.time;
  return done === undefined || told_at === undefined ? "?" : String(Date.parse(done.time) - Date.parse(told_at));
}

function identity(name: string, path: string, script: string): string {
  return `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: ${name} }
spec:
  workloadID: ${path}
  selectors:
    - process:script: ${script}
`;
}

function policy(name: string, workloads: string, rules: string): string {
  return `apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: ${name} }
spec:
  workloads: ${workloads}
  mode: enforce
  ${rules}
`;
}
