// Where the time goes: a guest's instructions by function, of one request, one write, one new connection and one new process, through riprap
// and through its peers. The whole guest is counted: both ends, the kernel between them and the daemon beside them.
import { bootNode, type RiprapNode } from "../vm/node.ts";
import { CERTIFICATES, HAPROXY, KTLS_PORT, OPENSSL, OPENSSL_PORT, startPeers } from "./data_path.ts";
import * as spawn from "./identity.ts";
import { buildLoad, loadPath } from "./load.ts";
import { CLIENT, PLAIN, PLAIN_PORT, RIPRAP_PORT, startRiprap } from "./pair.ts";
import { findObstacle, type InstructionCounter, openInstructionCounter } from "./profile/counter.ts";
import { shareByFunction } from "./profile/javascript.ts";
import { type Mapping, parseMappings, parseSymbols, type Sums, sumByFunction } from "./profile/symbol.ts";
import type { Row } from "./table.ts";

/** Of each peer's functions, as many as this are shown, with what they take at the others. */
const SHOWN = 16;
const SHOWN_OF_DAEMON = 60;
const SAMPLES = "/run/samples";
const CONNECTIONS = 10;
const PROCESSES = 12;
const RATE = 5;
const CHUNKS_PER_MIB = 64;

interface Scenario {
  readonly peer: string;
  readonly command: string;
  /** How often it did what it is named for: a field of what it prints, or the number itself. */
  readonly count: "count" | number;
  /** A shorter one of the same: what both do once, such as the handshake, is not of interest. */
  readonly less?: Pick<Scenario, "command" | "count">;
  /** Whose symbols the addresses of the load program have. */
  readonly program: "wire" | "openssl" | "spawn";
}

/** `command` with its extent in the place of a percent sign. */
function established(peer: string, program: Scenario["program"], command: string): Scenario {
  const isStream = command.includes(" stream ");
  const [short, long] = isStream ? [2, 8] : [0.02, 0.1];
  const of = (extent: number): Pick<Scenario, "command" | "count"> => ({
    command: command.replace("%", String(extent)),
    count: isStream ? extent * CHUNKS_PER_MIB : "count",
  });
  return { peer, program, ...of(long), less: of(short) };
}

const connect = (peer: string, command: string): Scenario => ({ peer, command, count: CONNECTIONS, program: "wire" });
const start = (peer: string, probe: string): Scenario => ({
  peer,
  command: `${spawn.UNMANAGED} run ${probe} 127.0.0.1 ${spawn.PORT} ${PROCESSES} ${RATE}`,
  count: PROCESSES,
  program: "spawn",
});

/** By what is done, in the order in which it is done: the processes of one warm the daemon for the next. */
const SCENARIOS: Readonly<Record<string, readonly Scenario[]>> = {
  request: [
    established("bare kTLS", "wire", `${PLAIN} rr 127.0.0.1 ${KTLS_PORT} % --ktls`),
    established("riprap", "wire", `${CLIENT} rr 127.0.0.1 ${RIPRAP_PORT} %`),
    established("OpenSSL", "openssl", `${OPENSSL} rr 127.0.0.1 ${OPENSSL_PORT} % ${CERTIFICATES}`),
  ],
  "16 KiB": [
    established("bare kTLS", "wire", `${PLAIN} stream 127.0.0.1 ${KTLS_PORT} % --ktls`),
    established("riprap", "wire", `${CLIENT} stream 127.0.0.1 ${RIPRAP_PORT} %`),
    established("OpenSSL", "openssl", `${OPENSSL} stream 127.0.0.1 ${OPENSSL_PORT} % ${CERTIFICATES}`),
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
  "exec to identity, daemon just started": [start("riprap", spawn.MANAGED)],
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
    const code = await readCode(node);
    const rows: Row[] = [];
    for (const [metric, scenarios] of Object.entries(SCENARIOS)) {
      const profiles = new Map<string, Sums>();
      for (const scenario of scenarios) profiles.set(scenario.peer, await profile(node, counter, scenario, code));
      rows.push(...compare(metric, profiles));
    }
    return [...rows, ...(await profileDaemon(node))];
  } finally {
    await node.stop();
  }
}

/** What is in the guest, whichever load runs. */
interface Code {
  readonly kernel: string;
  readonly mappings: readonly Mapping[];
}

async function readCode({ vm }: RiprapNode): Promise<Code> {
  const kernel = await vm.check("grep -i ' [tw] ' /proc/kallsyms", { timeout: 300_000 });
  return { kernel, mappings: parseMappings(await vm.check("cat /proc/[0-9]*/maps")) };
}

/** Instructions by function of one of what the scenario does often. */
async function profile(node: RiprapNode, counter: InstructionCounter, scenario: Scenario, code: Code): Promise<Sums> {
  const nm = Bun.spawnSync(["nm", loadPath(scenario.program)]).stdout.toString();
  const symbols = parseSymbols(`${code.kernel}\n${nm}`);
  const count = async ({ command, count }: Pick<Scenario, "command" | "count">) => {
    await counter.take();
    const printed = await node.vm.check(command, { timeout: 300_000 });
    const counts = await counter.take();
    process.stdout.write(`${scenario.peer}: ${printed}`);
    const times = typeof count === "number" ? count : (JSON.parse(printed) as Record<string, number>)[count];
    if (times === undefined) throw new TypeError(`${command} printed no ${count}`);
    return { times, sums: sumByFunction(counts, symbols, code.mappings) };
  };
  const none = { times: 0, sums: new Map<string, number>() };
  // Twice: what the first of a kind finds cold is neither's.
  if (scenario.less !== undefined) await count(scenario.less);
  const less = scenario.less === undefined ? none : await count(scenario.less);
  const { times, sums } = await count(scenario);
  const each = [...sums].map(([name, sum]): [string, number] => [
    name,
    (sum - (less.sums.get(name) ?? 0)) / (times - less.times),
  ]);
  // What only the shorter had was something beside it.
  return new Map(each.filter(([, instructions]) => instructions > 0).sort((a, b) => b[1] - a[1]));
}

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
