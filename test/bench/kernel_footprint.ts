// What an identity weighs: in the kernel, by the module's own count and by the slab, and in the daemon that is in charge of the module. In a guest, beside
// as many processes that no rule selects.
import type { Vm } from "../vm/lab.ts";
import { bootNode, type RiprapNode } from "../vm/node.ts";
import type { Row } from "./table.ts";

const PROCESSES = 100;
/** Started after them: of the daemon's memory for the first hundred, most is heap that is taken in steps. */
const MORE_PROCESSES = 400;
const PLAIN = "/srv/plain/sleep";
const MANAGED = "/srv/managed/sleep";
const SETTLE_MS = 5000;
const KIB = 1024;

const RULES = `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: sleep }
spec: { workloadID: sleep, selectors: { process:exe: ${MANAGED} } }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: sleep }
spec: { workloads: [sleep], egress: [{ to: [{ peer: sleep }], ports: [9000] }] }
`;

interface Weight {
  /** By the module's own count. */
  readonly module: number;
  /** Of all kmalloc caches. */
  readonly slab: number;
  readonly daemonRss: number;
}

/** Rows of one boot: the module's own count does not vary, and the other two by a few percent. */
export async function measureKernelFootprint(): Promise<Row[]> {
  const node = await bootNode({ kernel: "6.12", name: "bench", memoryChecks: false });
  try {
    const { vm } = node;
    await vm.check(`mkdir -p /srv/plain /srv/managed && cp /bin/sleep ${PLAIN} && cp /bin/sleep ${MANAGED}`);
    await node.riprap("init", "bench.example", "--node", "a");
    await node.writeRules({ bench: RULES });
    await node.start();
    // Caches and heaps that the first few fill.
    await startSleepers(vm, MANAGED, 20);
    await waitForIdentities(node, 20);
    const idle = await weigh(node);
    await startSleepers(vm, PLAIN, PROCESSES);
    const plain = await weigh(node);
    await startSleepers(vm, MANAGED, PROCESSES);
    await waitForIdentities(node, 20 + PROCESSES);
    const managed = await weigh(node);
    await startSleepers(vm, MANAGED, MORE_PROCESSES);
    await waitForIdentities(node, 20 + PROCESSES + MORE_PROCESSES);
    const more = await weigh(node);
    return [...rowsOf(idle, plain, managed), slopeRow(managed, more)];
  } finally {
    await node.stop();
  }
}

function rowsOf(idle: Weight, plain: Weight, managed: Weight): Row[] {
  const row = (peer: string, metric: string, value: number): Row => ({ round: 1, peer, metric, value });
  const each = (after: Weight, before: Weight, what: keyof Weight) => (after[what] - before[what]) / PROCESSES;
  return [
    row("no identity", "module's bytes for a process", each(plain, idle, "module")),
    row("riprap", "module's bytes for a process", each(managed, plain, "module")),
    row("no identity", "slab bytes for a process", each(plain, idle, "slab")),
    row("riprap", "slab bytes for a process", each(managed, plain, "slab")),
    row("riprap", "resident memory of the daemon in charge of the module, MiB", idle.daemonRss / KIB / KIB),
    row("riprap", `resident memory of the daemon with ${PROCESSES} identities, MiB`, managed.daemonRss / KIB / KIB),
  ];
}

function slopeRow(managed: Weight, more: Weight): Row {
  const value = (more.daemonRss - managed.daemonRss) / MORE_PROCESSES / KIB;
  const metric = `resident memory of the daemon for each of ${MORE_PROCESSES} identities more, KiB`;
  return { round: 1, peer: "riprap", metric, value };
}

async function startSleepers(vm: Vm, program: string, count: number): Promise<void> {
  await vm.check(`for i in $(seq ${count}); do setsid ${program} 100000 </dev/null >/dev/null 2>&1 & done`);
}

async function waitForIdentities(node: RiprapNode, count: number): Promise<void> {
  for (;;) {
    const ready = (await node.ask("ps")).filter(({ state }) => state === "ready");
    if (ready.length >= count) return;
    await Bun.sleep(500);
  }
}

async function weigh(node: RiprapNode): Promise<Weight> {
  await Bun.sleep(SETTLE_MS);
  const status = await node.ask("status");
  const slabs = await node.vm.check(
    "for cache in /sys/kernel/slab/[!:]*; do echo 1 >$cache/shrink; done 2>/dev/null; cat /proc/slabinfo",
  );
  const pid = (await node.vm.check("pgrep -f 'riprap (run|daemon)'")).trim().split("\n")[0];
  const rss = /^VmRSS:\s+(\d+)/m.exec(await node.vm.check(`cat /proc/${pid}/status`))?.[1];
  let slab = 0;
  for (const [, active, size] of slabs.matchAll(/^kmalloc-\S+ +(\d+) +\d+ +(\d+)/gm))
    slab += Number(active) * Number(size);
  return { module: status.module?.memoryBytes ?? Number.NaN, slab, daemonRss: Number(rss) * KIB };
}
