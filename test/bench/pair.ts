// The two managed programs of the benches on one node: a client and a server that may speak with each other, and the same
// program where no rule selects it.
import type { Vm } from "../vm/lab.ts";
import { enrolNodes, type RiprapNode } from "../vm/node.ts";

export const PLAIN = "/srv/plain/wire";
export const PLAIN_PORT = 9000;
export const CLIENT = "/srv/managed/client";
export const SERVER = "/srv/managed/server";
export const RIPRAP_PORT = 9002;

const RULES = `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: bench-client }
spec: { workloadID: bench/client, selectors: { process:exe: ${CLIENT} } }
---
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: bench-server }
spec: { workloadID: bench/server, selectors: { process:exe: ${SERVER} } }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: bench-client }
spec: { workloads: [bench/client], egress: [{ to: [{ peer: bench/server }], ports: [${RIPRAP_PORT}] }] }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: bench-server }
spec: { workloads: [bench/server], ingress: [{ from: [{ peer: bench/client }], ports: [${RIPRAP_PORT}] }] }
`;

/** Puts the programs in place, makes the node's trust domain, starts the daemon and the managed server. */
export async function startRiprap(node: RiprapNode, wire: Uint8Array): Promise<void> {
  for (const path of [PLAIN, CLIENT, SERVER]) await node.vm.put(path, wire, "755");
  await enrolNodes("bench.example", [node]);
  await node.writeRules({ bench: RULES });
  await node.start();
  node.vm.spawn([SERVER, "serve", String(RIPRAP_PORT)]);
  await waitForPort(node.vm, RIPRAP_PORT);
  // Where the clock counts instructions it leaps over waits for the disk, and with it over time limits: what the first
  // connections need is read in before any is measured.
  for (const n of [1, 2, 3]) await node.vm.run(`${CLIENT} connect 127.200.${n}.1 ${RIPRAP_PORT} 5 --spread`);
}

export function waitForPort(vm: Vm, port: number): Promise<void> {
  return vm.waitFor(`ss -ltn | grep -q ':${port} '`);
}
