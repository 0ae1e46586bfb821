// What a full mutual handshake costs both ends together, in instructions: riprap's beside OpenSSL's in memory. riprap's figure
// is what a new connection takes longer than a plain one, so it holds sockets, work items and flow records too.
import type { Vm } from "../vm/lab.ts";
import { bootNode } from "../vm/node.ts";
import { certificateScript } from "./haproxy.ts";
import { buildLoad } from "./load.ts";
import { CLIENT, PLAIN, PLAIN_PORT, RIPRAP_PORT, startRiprap, waitForPort } from "./pair.ts";

const HANDSHAKES = 40;
const OPENSSL = "/srv/plain/openssl";
const CERTIFICATES = "/run/bench";

export interface HandshakeCost {
  readonly who: string;
  readonly instructions: number;
}

/** Boots a guest that counts instructions and measures each of the three once: two boots agree within a percent. */
export async function measureHandshakes(): Promise<HandshakeCost[]> {
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
    const resumed = await figure(vm, `${CLIENT} connect 127.0.0.1 ${RIPRAP_PORT} ${HANDSHAKES}`, "p50_us");
    return [
      { who: "OpenSSL in memory, full", instructions: Math.round(inMemory) },
      { who: "riprap, full", instructions: Math.round((full - plain) * 1000) },
      { who: "riprap, resumed", instructions: Math.round((resumed - plain) * 1000) },
    ];
  } finally {
    await node.stop();
  }
}

async function figure(vm: Vm, command: string, field: "ns" | "p50_us"): Promise<number> {
  const printed = JSON.parse(await vm.check(command, { timeout: 300_000 })) as Record<string, number>;
  return printed[field] ?? Number.NaN;
}
