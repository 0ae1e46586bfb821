// Where the time goes: a guest's instructions by function, of one request, one write, one new connection and one new process, through riprap
// and through its peers. The whole guest is counted: both ends, the kernel between them and the daemon beside them.
import { bootNode, type RiprapNode } from "../vm/node.ts";
import { CERTIFICATES, HAPROXY, KTLS_PORT, OPENSSL, OPENSSL_PORT, startPeers } from "./data_path.ts";
import * as spawn from "./identity.ts";
import { buildLoad, loadPath } from "./load.ts";
import { CLIENT, PLAIN, PLAIN_PORT, RIPRAP_PORT, startRiprap } from "./pair.ts";
import { findObstacle, type InstructionCounter, openInstructionCounter } from "./profile/counter.ts";
import { shareByFunction } from "./profile/javascript.ts";
import { parseMappings, parseSymbols, type Sums, sumByFunction } from "./profile/symbol.ts";
import type { Row } from "./table.ts";

/** Of each peer's functions, as many as this are shown, with what they take at the others. */
const SHOWN = 16;
const SHOWN_OF_DAEMON = 60;
const SAMPLES = "/run/samples";
const CONNECTIONS = 20;
const PROCESSES = 20;
const RATE = 5;

interface Scenario {
  readonly peer: string;
  readonly command: string;
  /** How often it did what it is named for: a field of what it prints, or the number itself. */
  readonly count: "count" | number;
  /** Whose symbols the addresses of the load program have. */
  readonly program: "wire" | "openssl" | "spawn";
}

const request = (peer: string, command: string): Scenario => ({ peer, command, count: "count", program: "wire" });
const stream = (peer: string, command: string): Scenario => ({ peer, command, count: 512, program: "wire" });
const connect = (peer: string, command: string): Scenario => ({ peer, command, count: CONNECTIONS, program: "wire" });
const start = (peer: string, probe: string): Scenario => ({
  peer,
  command: `${spawn.UNMANAGED} run ${probe} 127.0.0.1 ${spawn.PORT} ${PROCESSES} ${RATE}`,
  count: PROCESSES,
  program: "spawn",
});

/** By what is done, in the order in which it is done: the first exec's warm the daemon. */
const SCENARIOS: Readonly<Record<string, readonly Scenario[]>> = {
  request: [
    request("bare kTLS", `${PLAIN} rr 127.0.0.1 ${KTLS_PORT} 0.2 --ktls`),
    request("riprap", `${CLIENT} rr 127.0.0.1 ${RIPRAP_PORT} 0.2`),
    { ...request("OpenSSL", `${OPENSSL} rr 127.0.0.1 ${OPENSSL_PORT} 0.2 ${CERTIFICATES}`), program: "openssl" },
  ],
  "16 KiB": [
    stream("bare kTLS", `${PLAIN} stream 127.0.0.1 ${KTLS_PORT} 8 --ktls`),
    stream("riprap", `${CLIENT} stream 127.0.0.1 ${RIPRAP_PORT} 8`),
    { ...stream("OpenSSL", `${OPENSSL} stream 127.0.0.1 ${OPENSSL_PORT} 8 ${CERTIFICATES}`), program: "openssl" },
  ],
  "full handshake": [
    connect("plain TCP", `${PLAIN} connect 127.0.0.1 ${PLAIN_PORT} ${CONNECTIONS}`),
    connect("haproxy pair", `${PLAIN} connect 127.0.0.1 ${HAPROXY.full.entry} ${CONNECTIONS}`),
    connect("riprap", `${CLIENT} connect 127.7.0.1 ${RIPRAP_PORT} ${CONNECTIONS} --spread`),
  ],
  "resumed handshake": [
    connect("haproxy pair", `${PLAIN} connect 127.0.0.1 ${HAPROXY.resumed.entry} ${CONNECTIONS}`),
    connect("riprap", `${CLIENT} connect 127.0.0.1 ${RIPRAP_PORT} ${CONNECTIONS}`),
  ],
  "exec to identity, daemon just started": [start("unmanaged", spawn.UNMANAGED), start("riprap", spawn.MANAGED)],
  "exec to identity": [start("unmanaged", spawn.UNMANAGED), start("riprap", spawn.MANAGED)],
};

/** Rows "what: function" in instructions, and one of all; those of the daemon's own functions in percent. None, and why, where QEMU cannot count. */
export async function measureProfiles(): Promise<Row[]> {
  const obstacle = findObstacle();
  if (obstacle !== undefined) {
    process.stdout.write(`profile: skipped: ${obstacle}\n`);
    return [];
  }
  const wire = await buildLoad("wire");
  const openssl = await buildLoad("openssl", ["-lssl", "-lcrypto"]);
  const probe = await buildLoad("spawn");
  await using counter = await openInstructionCounter();
  const { plugin } = counter;
  const node = await bootNode({ kernel: "6.12", name: "bench", memoryChecks: false, countInstructions: true, plugin });
  try {
    for (const path of [spawn.UNMANAGED, spawn.MANAGED]) await node.vm.put(path, probe, "755");
    await node.writeRules({ spawn: spawn.RULES });
    await startRiprap(node, wire);
    await startPeers(node.vm, openssl);
    const rows: Row[] = [];
    for (const [metric, scenarios] of Object.entries(SCENARIOS)) {
      const profiles = new Map<string, Sums>();
      for (const scenario of scenarios) profiles.set(scenario.peer, await profile(node, counter, scenario));
      rows.push(...compare(metric, profiles));
    }
    return [...rows, ...(await profileDaemon(node))];
  } finally {
    await node.stop();
  }
}

/** Instructions by function of one of what the scenario does often. */
async function profile(node: RiprapNode, counter: InstructionCounter, scenario: Scenario): Promise<Sums> {
  const { peer, command, count, program } = scenario;
  await counter.take();
  const printed = await node.vm.check(command, { timeout: 300_000 });
  const counts = await counter.take();
  const times = typeof count === "number" ? count : (JSON.parse(printed) as Record<string, number>)[count];
  if (times === undefined) throw new TypeError(`${command} printed no ${count}`);
  process.stdout.write(`${peer}: ${printed}`);
  const nm = Bun.spawnSync(["nm", loadPath(program)]);
  const symbols = parseSymbols(`${await node.vm.check("cat /proc/kallsyms")}\n${nm.stdout.toString()}`);
  const mappings = parseMappings(await node.vm.check(MAPPINGS));
  return new Map([...sumByFunction(counts, symbols, mappings)].map(([name, sum]) => [name, sum / times]));
}

/** Each line of each program's maps behind the program's name. */
const MAPPINGS = `cd /proc && for pid in [0-9]*; do
  program=$(readlink $pid/exe) && sed "s|^|$(basename $program) |" $pid/maps
done 2>/dev/null; true`;

function compare(metric: string, profiles: ReadonlyMap<string, Sums>): Row[] {
  const shown = new Set<string>();
  for (const sums of profiles.values()) for (const name of [...sums.keys()].slice(0, SHOWN)) shown.add(name);
  const row = (peer: string, name: string, value: number): Row => ({
    round: 1,
    peer,
    metric: `${metric}: ${name}`,
    value,
  });
  const all = [...profiles].map(([peer, sums]) =>
    row(
      peer,
      "all",
      sums.values().reduce((sum, value) => sum + value, 0),
    ),
  );
  const each = [...shown].flatMap((name) => [...profiles].map(([peer, sums]) => row(peer, name, sums.get(name) ?? 0)));
  return [...all, ...each];
}

/** The daemon's functions while processes come, as its runtime samples them: started anew for that, and warm when they are counted. */
async function profileDaemon(node: RiprapNode): Promise<Row[]> {
  const { vm } = node;
  const load = start("riprap", spawn.MANAGED).command;
  await node.stopDaemon();
  await node.start({ BUN_OPTIONS: `--cpu-prof --cpu-prof-dir=${SAMPLES}` });
  await vm.check(load, { timeout: 300_000 });
  const begun = await uptimeUs(node);
  await vm.check(load, { timeout: 300_000 });
  await node.stopDaemon();
  const took = (await uptimeUs(node)) - begun;
  const shares = shareByFunction(await vm.check(`cat ${SAMPLES}/*.cpuprofile`), took);
  const row = (peer: string, name: string, share: number): Row => ({
    round: 1,
    peer,
    metric: `exec to identity, percent of the daemon: ${name}`,
    value: share * 100,
  });
  return [...shares]
    .slice(0, SHOWN_OF_DAEMON)
    .flatMap(([name, { itself, whole }]) => [row("riprap", name, whole), row("of it itself", name, itself)]);
}

async function uptimeUs({ vm }: RiprapNode): Promise<number> {
  return Number.parseFloat(await vm.check("cat /proc/uptime")) * 1e6;
}
