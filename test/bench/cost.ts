// What the module costs a connect(), a fork() and an exec, in instructions: unmanaged without and with the module, managed under 10 to
// 100,000 rules, and the peer: a cgroup/connect4 eBPF program that asks a hash.

import { LOAD_MODULE, PROGRAM_DIR } from "../vm/lab/product.ts";
import type { Vm } from "../vm/lab.ts";
import { bootNode, enrolNodes } from "../vm/node.ts";
import { buildLoad } from "./load.ts";
import { median, type Row } from "./table.ts";

const PORT = 9400;
const CONNECTS = 400;
const FORKS = 200;
const UNMANAGED = "/srv/plain/cost"; // selected by no rule
const MANAGED = "/srv/managed/cost";
const CGROUP = "/run/cgroup";
const TRACING = "/sys/kernel/tracing";
const TRACED = 100;
const VERDICT = "/srv/plain/verdict";
/** A rule lies first in its slot under most seeds, and is then found as fast as it can be: some of so many tables. */
const TABLES = 6;
const CONNECTS_PER_TABLE = 20;
const PORTS_MAX = 100;
const SIGNATURES = 40;
/** Rules and entries that a verdict is looked up among. */
const VERDICT_SIZES = [10, 1000, 100_000];
const EMPTY = "bpf_lsm_socket_connect";

export interface Cost {
  readonly metric:
    | "socket()"
    | "connect()"
    | "close()"
    | "verdict"
    | "signature of the CA"
    | "socket() to connected, elapsed"
    | "fork()"
    | "fork() and exec";
  readonly who: string;
  readonly instructions: number;
}

interface Printed {
  readonly socket: number;
  readonly connect: number;
  readonly close: number;
  readonly elapsed: number;
  readonly fork: number;
  readonly exec: number;
}

/** The n-th measurement of a thing is of round n. */
export function costRows(costs: readonly Cost[]): Row[] {
  const rounds = new Map<string, number>();
  return costs.map(({ metric, who, instructions }) => {
    const key = `${metric}\n${who}`;
    const round = (rounds.get(key) ?? 0) + 1;
    rounds.set(key, round);
    return { round, peer: who, metric: `${metric}, instructions`, value: instructions };
  });
}

/**
 * Boots a guest that counts instructions and measures; managed connects under policies of each of `sizes` rules. What no rule selects is
 * measured in turn without and with the module, once more with each size; a verdict in each of TABLES tables, and as often the eBPF program.
 * A gate takes the least of each: whatever else the one processor did meanwhile only ever adds.
 */
export async function measureCost(sizes: readonly number[]): Promise<Cost[]> {
  const [program, verdict] = [await buildLoad("cost"), await buildLoad("verdict")];
  const node = await bootNode({ kernel: "6.12", name: "cost", memoryChecks: false, countInstructions: true });
  try {
    const { vm } = node;
    for (const path of [UNMANAGED, MANAGED]) await vm.put(path, program, "755");
    await vm.put(VERDICT, verdict, "755");
    vm.spawn([UNMANAGED, "sink", String(PORT)]);
    await vm.waitFor(`ss -ltn | grep -q ':${PORT} '`);
    const costs = await measure(vm, "unmanaged, no module", UNMANAGED);
    for (const size of VERDICT_SIZES) costs.push(...(await measureLookup(vm, size)));
    await vm.check(LOAD_MODULE);
    for (const size of VERDICT_SIZES) costs.push(...(await measureVerdict(vm, size)));
    const instructions = Number(await vm.check(`${PROGRAM_DIR}/authority_key time ${SIGNATURES}`));
    costs.push({ metric: "signature of the CA", who: "riprap", instructions });
    await vm.check("rmmod riprap");
    await enrolNodes("cost.example", [node]);
    for (const [index, size] of sizes.entries()) {
      if (index > 0) {
        await node.stopDaemon();
        await vm.check("rmmod riprap");
        costs.push(...(await measure(vm, "unmanaged, no module", UNMANAGED)));
      }
      await node.writeRules({ cost: rules(size) });
      await node.start();
      costs.push(...(await measure(vm, "unmanaged, module loaded", UNMANAGED)));
      costs.push(...(await measure(vm, `managed, ${size} rules`, MANAGED)));
    }
    return costs;
  } finally {
    await node.stop();
  }
}

async function measure(vm: Vm, who: string, program: string): Promise<Cost[]> {
  const connect = await ask(vm, `${program} connect 127.0.0.1 ${PORT} ${CONNECTS}`);
  const { fork } = await ask(vm, `${program} fork ${FORKS}`);
  const { exec } = await ask(vm, `${program} exec ${FORKS}`);
  return [
    { metric: "socket()", who, instructions: connect.socket },
    { metric: "connect()", who, instructions: connect.connect },
    { metric: "close()", who, instructions: connect.close },
    { metric: "socket() to connected, elapsed", who, instructions: connect.elapsed },
    { metric: "fork()", who, instructions: fork },
    { metric: "fork() and exec", who, instructions: exec },
  ];
}

async function measureLookup(vm: Vm, size: number): Promise<Cost[]> {
  const group = `${CGROUP}/lookup${size}`;
  await vm.check(`mkdir -p ${CGROUP}; mountpoint -q ${CGROUP} || mount -t cgroup2 none ${CGROUP}; mkdir ${group}`);
  const command = `${UNMANAGED} connect 127.0.0.1 ${PORT} ${TRACED} ${group} ${size}`;
  const taken = await timeFunction(vm, "__cgroup_bpf_run_filter_sock_addr", command);
  return taken.map((instructions) => ({ metric: "verdict", who: `eBPF hash, ${size} entries`, instructions }));
}

async function measureVerdict(vm: Vm, size: number): Promise<Cost[]> {
  const command = `${VERDICT} 127.0.0.1 ${PORT} ${size} ${TABLES} ${CONNECTS_PER_TABLE}`;
  const taken = await timeFunction(vm, "riprap_table_verdict", command);
  return taken.map((instructions) => ({ metric: "verdict", who: `riprap, ${size} rules`, instructions }));
}

/** Median instructions of a kernel function in each of TABLES parts of the command, less what tracing itself adds (taken from one that does nothing). */
async function timeFunction(vm: Vm, name: string, command: string): Promise<number[]> {
  const { stdout } = await vm.run(
    `mountpoint -q ${TRACING} || mount -t tracefs none ${TRACING}
cd ${TRACING} && echo > trace && echo ${name} > set_ftrace_filter && echo ${EMPTY} >> set_ftrace_filter && echo function_graph > current_tracer
${command} >&2
cat trace; echo nop > current_tracer; echo > set_ftrace_filter`,
    { timeout: 300_000 },
  );
  const taken = takenBy(stdout, name);
  const added = median(takenBy(stdout, EMPTY));
  return Array.from(
    { length: TABLES },
    (_, part) => median(taken.slice((part * taken.length) / TABLES, ((part + 1) * taken.length) / TABLES)) - added,
  );
}

/** In instructions. Lines read "0)   1.024 us    |  look_up [riprap]();". */
function takenBy(trace: string, name: string): number[] {
  const found = [...trace.matchAll(/([0-9.]+) us\s+\|\s+(\w+)(?: \[\w+\])?\(\);/g)];
  return found.flatMap(([, us, traced]) => (traced === name ? [Math.round(Number(us) * 1000)] : []));
}

async function ask(vm: Vm, command: string): Promise<Printed> {
  return JSON.parse(await vm.check(command, { timeout: 300_000 })) as Printed;
}

/** `size` entries of the compiled table: addresses times ports that share no prefix, one of each being the sink's. */
function rules(size: number): string {
  const width = Math.min(PORTS_MAX, 10 ** Math.floor(Math.log10(size) / 2));
  const ports = [PORT, ...Array.from({ length: width - 1 }, (_, n) => 10_001 + 2 * n)];
  const others = Array.from(
    { length: size / width - 1 },
    (_, n) => `{ address: 10.1.${(n + 1) >> 8}.${(n + 1) & 255} }`,
  );
  return `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: cost }
spec: { workloadID: cost, selectors: { process:exe: ${MANAGED} } }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: cost }
spec:
  workloads: [cost]
  egress:
    - tls: plain
      ports: [${ports.join(", ")}]
      to: [${["{ address: 127.0.0.1 }", ...others].join(", ")}]
`;
}
