// What the module costs a connect() and a fork(), in instructions: unmanaged without and with the module, managed under 10 to
// 100,000 rules, and the peer: a cgroup/connect4 eBPF program that asks a hash.
import type { Vm } from "../vm/lab.ts";
import { bootNode, enrolNodes, type RiprapNode } from "../vm/node.ts";
import { buildLoad } from "./load.ts";

const PORT = 9400;
const CONNECTS = 400;
const FORKS = 200;
const UNMANAGED = "/srv/plain/cost"; // selected by no rule
const MANAGED = "/srv/managed/cost";
const CGROUP = "/run/cgroup";

export interface Cost {
  readonly metric: "socket()" | "connect()" | "close()" | "verdict" | "socket() to connected, elapsed" | "fork()";
  readonly who: string;
  readonly instructions: number;
}

interface Printed {
  readonly socket: number;
  readonly connect: number;
  readonly close: number;
  readonly elapsed: number;
  readonly lookup: number;
  readonly fork: number;
}

/** Boots a guest that counts instructions and measures with policies of each of `sizes` rules. */
export async function measureCost(sizes: readonly number[]): Promise<Cost[]> {
  const program = await buildLoad("cost");
  const node = await bootNode({ kernel: "6.12", name: "cost", memoryChecks: false, countInstructions: true });
  try {
    const { vm } = node;
    for (const path of [UNMANAGED, MANAGED]) await vm.put(path, program, "755");
    vm.spawn([UNMANAGED, "sink", String(PORT)]);
    await vm.waitFor(`ss -ltn | grep -q ':${PORT} '`);
    const costs = await measure(vm, "unmanaged, no module", UNMANAGED);
    for (const size of sizes) costs.push(...(await measureLookup(vm, size)));
    await enrolNodes("cost.example", [node]);
    for (const [index, size] of sizes.entries()) {
      await applyRules(node, size, index === 0);
      if (index === 0) costs.push(...(await measure(vm, "unmanaged, module loaded", UNMANAGED)));
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
  return [
    { metric: "socket()", who, instructions: connect.socket },
    { metric: "connect()", who, instructions: connect.connect },
    { metric: "close()", who, instructions: connect.close },
    { metric: "socket() to connected, elapsed", who, instructions: connect.elapsed },
    { metric: "fork()", who, instructions: fork },
  ];
}

async function measureLookup(vm: Vm, size: number): Promise<Cost[]> {
  const group = `${CGROUP}/lookup${size}`;
  await vm.check(`mkdir -p ${CGROUP}; mountpoint -q ${CGROUP} || mount -t cgroup2 none ${CGROUP}; mkdir ${group}`);
  const { lookup } = await ask(vm, `${UNMANAGED} lookup 127.0.0.1 ${PORT} ${CONNECTS} ${group} ${size}`);
  return [{ metric: "verdict", who: `eBPF hash, ${size} entries`, instructions: lookup }];
}

async function ask(vm: Vm, command: string): Promise<Printed> {
  return JSON.parse(await vm.check(command, { timeout: 300_000 })) as Printed;
}

async function applyRules(node: RiprapNode, size: number, first: boolean): Promise<void> {
  await node.writeRules({ cost: rules(size) });
  if (!first) await node.stopDaemon();
  await node.start();
}

/** One rule that allows the loopback and `size` - 1 that allow somebody else. */
function rules(size: number): string {
  const others = Array.from({ length: size - 1 }, (_, n) => {
    const host = n + 1;
    return `{ address: 10.${host >> 16}.${(host >> 8) & 255}.${host & 255} }`;
  });
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
      ports: [${PORT}]
      to: [{ address: 127.0.0.1 }, ${others.join(", ")}]
`;
}
