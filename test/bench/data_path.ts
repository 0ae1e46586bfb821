// The data path bench: new connections, request/response and a stream, through plain TCP, bare kTLS, a pair of haproxy
// mTLS proxies and riprap, all on the loopback of one guest, round by round in turn. Prints raw rows and ratios.
import type { Vm } from "../vm/lab.ts";
import { bootNode } from "../vm/node.ts";
import { certificateScript, haproxyConfig } from "./haproxy.ts";
import { buildLoad } from "./load.ts";
import { CLIENT, PLAIN, PLAIN_PORT, RIPRAP_PORT, startRiprap, waitForPort } from "./pair.ts";
import type { Row } from "./table.ts";

export const KTLS_PORT = 9001;
export const OPENSSL_PORT = 9003;
export const HAPROXY = { full: { entry: 9100, tls: 9101 }, resumed: { entry: 9110, tls: 9111 } } as const;
export const OPENSSL = "/srv/plain/openssl";
export const CERTIFICATES = "/run/bench";

export interface DataPathOptions {
  readonly rounds: number;
  readonly connections: number;
  readonly seconds: number;
  readonly mib: number;
  /** One processor and a clock of instructions: repeatable, and free of what else the machine does. */
  readonly countInstructions: boolean;
}

interface Measurement {
  readonly metric: string;
  readonly peer: string;
  readonly command: string;
  readonly field: "p50_us" | "per_second" | "mib_per_second";
}

/** Boots the guest and runs all rounds. */
export async function benchDataPath(options: DataPathOptions): Promise<Row[]> {
  const { countInstructions } = options;
  const wire = await buildLoad("wire");
  const openssl = await buildLoad("openssl", ["-lssl", "-lcrypto"]);
  // Without slab red zones: they tax the kernel side alone.
  const node = await bootNode({ kernel: "6.12", name: "bench", memoryChecks: false, countInstructions });
  try {
    await startRiprap(node, wire);
    await startPeers(node.vm, openssl);
    const rows: Row[] = [];
    for (let round = 1; round <= options.rounds; round++) rows.push(...(await measureRound(node.vm, round, options)));
    return rows;
  } finally {
    await node.stop();
  }
}

/** What riprap is measured beside, each at its port; OpenSSL's load program is `openssl`. */
export async function startPeers(vm: Vm, openssl: Uint8Array): Promise<void> {
  await vm.put(OPENSSL, openssl, "755");
  await vm.check(certificateScript(CERTIFICATES));
  for (const [name, ports] of Object.entries(HAPROXY)) {
    const file = `${CERTIFICATES}/${name}.cfg`;
    await vm.put(file, haproxyConfig(CERTIFICATES, { ...ports, server: PLAIN_PORT }, name === "resumed"));
    vm.spawn(["haproxy", "-db", "-f", file]);
  }
  vm.spawn([PLAIN, "serve", String(PLAIN_PORT)]);
  vm.spawn([PLAIN, "serve", String(KTLS_PORT), "--ktls"]);
  vm.spawn([OPENSSL, "serve", String(OPENSSL_PORT), CERTIFICATES]);
  for (const port of [PLAIN_PORT, KTLS_PORT, OPENSSL_PORT, HAPROXY.full.entry, HAPROXY.resumed.entry])
    await waitForPort(vm, port);
}

function measurements(round: number, options: DataPathOptions): Measurement[] {
  const connect = (peer: string, program: string, to: string, field: Measurement["field"]): Measurement => ({
    metric: field === "p50_us" ? "new connection to first byte, p50 us" : "new connections per second",
    peer,
    command: `${program} connect ${to}`,
    field,
  });
  const established = (peer: string, program: string, port: number, flag = ""): Measurement[] => [
    {
      metric: "100-byte request/response per second",
      peer,
      command: `${program} rr 127.0.0.1 ${port} ${options.seconds}${flag}`,
      field: "per_second",
    },
    {
      metric: "16 KiB stream, MiB per second",
      peer,
      command: `${program} stream 127.0.0.1 ${port} ${options.mib}${flag}`,
      field: "mib_per_second",
    },
    ...(program === OPENSSL
      ? []
      : [
          {
            metric: "sendfile(), MiB per second",
            peer,
            command: `${program} sendfile 127.0.0.1 ${port} ${options.mib}${flag}`,
            field: "mib_per_second" as const,
          },
        ]),
  ];
  const connections = (["p50_us", "per_second"] as const).flatMap((field) => [
    connect("plain TCP", PLAIN, `127.0.0.1 ${PLAIN_PORT} ${options.connections}`, field),
    connect("haproxy pair, full", PLAIN, `127.0.0.1 ${HAPROXY.full.entry} ${options.connections}`, field),
    connect("haproxy pair, resumed", PLAIN, `127.0.0.1 ${HAPROXY.resumed.entry} ${options.connections}`, field),
    // A resumption secret is kept for an address and port: a new address each time means a full handshake each time.
    connect("riprap, full", CLIENT, `127.${round}.0.1 ${RIPRAP_PORT} ${options.connections} --spread`, field),
    connect("riprap, resumed", CLIENT, `127.0.0.1 ${RIPRAP_PORT} ${options.connections}`, field),
  ]);
  return [
    ...connections,
    ...established("plain TCP", PLAIN, PLAIN_PORT),
    ...established("bare kTLS", PLAIN, KTLS_PORT, " --ktls"),
    ...established("OpenSSL", OPENSSL, OPENSSL_PORT, ` ${CERTIFICATES}`),
    ...established("haproxy pair, full", PLAIN, HAPROXY.full.entry),
    ...established("riprap, resumed", CLIENT, RIPRAP_PORT),
  ];
}

async function measureRound(vm: Vm, round: number, options: DataPathOptions): Promise<Row[]> {
  const rows: Row[] = [];
  const printed = new Map<string, Record<string, number>>();
  for (const { metric, peer, command, field } of measurements(round, options)) {
    // One run of a command gives all its figures.
    const known =
      printed.get(command) ?? (JSON.parse(await vm.check(command, { timeout: 300_000 })) as Record<string, number>);
    printed.set(command, known);
    const value = known[field];
    if (value === undefined) throw new TypeError(`${command} printed no ${field}`);
    rows.push({ round, peer, metric, value });
    process.stdout.write(`round ${round}  ${metric}  ${peer}  ${value}\n`);
  }
  return rows;
}
