// What a mutual connection costs both ends together, in instructions: its handshake beside OpenSSL's in memory, its requests, its stream and its
// sendfile() beside bare kTLS. riprap's handshake is what a new connection takes longer than a plain one, so it holds sockets, work items and flow records too.
import type { Vm } from "../vm/lab.ts";
import { bootNode } from "../vm/node.ts";
import { certificateScript } from "./haproxy.ts";
import { buildLoad } from "./load.ts";
import { CLIENT, PLAIN, PLAIN_PORT, RIPRAP_PORT, startRiprap, waitForPort } from "./pair.ts";
import { leastOf } from "./table.ts";

const HANDSHAKES = 40;
const OPENSSL = "/srv/plain/openssl";
const CERTIFICATES = "/run/bench";

const KTLS_PORT = 9001;
/** 10⁹ instructions are one. */
const REQUEST_SECONDS = 0.05;
const STREAM_MIB = 4;
const CHUNKS_PER_MIB = 64;
/** In turn, and the least of each counts: whatever else the one processor did meanwhile only ever adds. */
const ROUNDS = 3;

export interface ConnectionCost {
  readonly metric: "handshake" | "request" | "16 KiB of a stream" | "16 KiB by sendfile()";
  readonly who: string;
  readonly instructions: number;
}

/** Boots a guest that counts instructions, and measures: two boots agree within a percent or two. */
export async function measureConnections(): Promise<ConnectionCost[]> {
  const [wire, openssl] = [await buildLoad("wire"), await buildLoad("openssl", ["-lssl", "-lcrypto"])];
  const node = await bootNode({ kernel: "6.12", name: "bench", memoryChecks: false, countInstructions: true });
  try {
    const { vm } = node;
    await vm.put(OPENSSL, openssl, "755");
    await vm.check(certificateScript(CERTIFICATES));
    await startRiprap(node, wire);
    const inMemory = await figure(vm, `${OPENSSL} handshake ${HANDSHAKES} ${CERTIFICATES}`, "ns");
    vm.spawn([PLAIN, "serve", String(PLAIN_PORT)]);
    await waitForPort(vm, PLAIN_PORT);
    const plain = await figure(vm, `${PLAIN} connect 127.0.0.1 ${PLAIN_PORT} ${HANDSHAKES}`, "p50_us");
    const full = await figure(vm, `${CLIENT} connect 127.1.0.1 ${RIPRAP_PORT} ${HANDSHAKES} --spread`, "p50_us");
    const resumptions: number[] = [];
    for (let round = 0; round < ROUNDS; round++)
      resumptions.push(await figure(vm, `${CLIENT} connect 127.0.0.1 ${RIPRAP_PORT} ${HANDSHAKES}`, "p50_us"));
    const resumed = Math.min(...resumptions);
    vm.spawn([PLAIN, "serve", String(KTLS_PORT), "--ktls"]);
    await waitForPort(vm, KTLS_PORT);
    return [
      { metric: "handshake", who: "OpenSSL in memory, full", instructions: Math.round(inMemory) },
      { metric: "handshake", who: "riprap, full", instructions: Math.round((full - plain) * 1000) },
      { metric: "handshake", who: "riprap, resumed", instructions: Math.round((resumed - plain) * 1000) },
      ...(await measureEstablished(vm)),
    ];
  } finally {
    await node.stop();
  }
}

async function measureEstablished(vm: Vm): Promise<ConnectionCost[]> {
  const costs: ConnectionCost[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    costs.push(...(await measureLoads(vm, "bare kTLS", `${PLAIN} % 127.0.0.1 ${KTLS_PORT} % --ktls`)));
    costs.push(...(await measureLoads(vm, "riprap", `${CLIENT} % 127.0.0.1 ${RIPRAP_PORT} %`)));
  }
  return leastOf(costs);
}

/** `command` with the load and its extent in the places of its two percent signs. */
async function measureLoads(vm: Vm, who: string, command: string): Promise<ConnectionCost[]> {
  const words = (load: string, extent: number) => command.replace("%", load).replace("%", String(extent));
  const chunk = async (load: string) =>
    Math.round(1e9 / (await figure(vm, words(load, STREAM_MIB), "mib_per_second")) / CHUNKS_PER_MIB);
  const request = await figure(vm, words("rr", REQUEST_SECONDS), "p50_us");
  return [
    { metric: "request", who, instructions: Math.round(request * 1000) },
    { metric: "16 KiB of a stream", who, instructions: await chunk("stream") },
    { metric: "16 KiB by sendfile()", who, instructions: await chunk("sendfile") },
  ];
}

async function figure(vm: Vm, command: string, field: "ns" | "p50_us" | "mib_per_second"): Promise<number> {
  const printed = JSON.parse(await vm.check(command, { timeout: 300_000 })) as Record<string, number>;
  return printed[field] ?? Number.NaN;
}
