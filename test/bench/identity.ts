// From exec to a usable identity: attested, matched, its key made in the kernel, its SVID signed and installed. At rising rates
// of new processes, beside the same program where no rule selects it.
import type { Vm } from "../vm/lab.ts";
import { bootNode, enrolNodes } from "../vm/node.ts";
import { buildLoad } from "./load.ts";
import type { Row } from "./table.ts";

export const UNMANAGED = "/srv/plain/spawn";
export const MANAGED = "/srv/managed/spawn";
export const PORT = 9999; // nobody listens
const SECONDS = 5;

export const RULES = `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: spawn }
spec: { workloadID: spawn, selectors: { process:exe: ${MANAGED} } }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: spawn }
spec: { workloads: [spawn], egress: [{ to: [{ peer: spawn }], ports: [${PORT}] }] }
`;

/** Rows of each round and rate (processes a second): p50 and p99 since exec, and of connect() alone. */
export async function measureIdentities(rounds: number, rates: readonly number[]): Promise<Row[]> {
  const program = await buildLoad("spawn");
  const node = await bootNode({ kernel: "6.12", name: "bench", memoryChecks: false });
  try {
    for (const path of [UNMANAGED, MANAGED]) await node.vm.put(path, program, "755");
    await enrolNodes("bench.example", [node]);
    await node.writeRules({ bench: RULES });
    await node.start();
    const rows: Row[] = [];
    for (let round = 1; round <= rounds; round++) {
      for (const rate of rates) {
        rows.push(...(await measure(node.vm, round, rate, "unmanaged", UNMANAGED)));
        rows.push(...(await measure(node.vm, round, rate, "riprap", MANAGED)));
      }
    }
    return rows;
  } finally {
    await node.stop();
  }
}

async function measure(vm: Vm, round: number, rate: number, peer: string, program: string): Promise<Row[]> {
  const command = `${UNMANAGED} run ${program} 127.0.0.1 ${PORT} ${rate * SECONDS} ${rate}`;
  const printed = JSON.parse(await vm.check(command, { timeout: 300_000 })) as Record<string, number>;
  const row = (metric: string, field: string): Row => ({
    round,
    peer,
    metric: `${rate} new processes a second: ${metric}`,
    value: printed[field] ?? Number.NaN,
  });
  return [
    row("exec to identity, p50 us", "p50_us"),
    row("exec to identity, p99 us", "p99_us"),
    row("wait in connect(), p50 us", "wait_p50_us"),
    row("wait in connect(), p99 us", "wait_p99_us"),
    row("denied for lack of an identity", "denied"),
  ];
}
