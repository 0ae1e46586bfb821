// The issuance bench: what a core signs, over the Workload API's socket and within the process, beside CFSSL, bare signatures and serial jose. Prints raw rows and targets.

import { existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { measureCfssl } from "./issuance/cfssl.ts";
import { IDLE_STREAMS, measureIdleMemory } from "./issuance/idle.ts";
import { Program } from "./issuance/program.ts";
import { buildLoad } from "./load.ts";
import type { BenchResult } from "./section.ts";
import { median, type Row } from "./table.ts";

const HERE = join(import.meta.dir, "issuance");
const GO_CLIENTS = join(import.meta.dir, "../../.cache/go_spiffe");
const CALLERS = 16;
const WARM_UP_SECONDS = 2;
const PUSH_STREAMS = 64;
const PUSH_ROUNDS = 100;
const SINGLE_ROUNDS = 200;
const PERCENTILE = 0.99;

/** A server that has just begun, whose runtime compiles the while. */
const YOUNG_ROUNDS = 60;
/** By then the runtime has done with compiling, which for a daemon that runs for days is nothing and was up to half of what was measured. */
const WARM_UP_ROUNDS = 400;
/** Of a life that is another one at each round: the SVID is made anew, and its identity stays. */
const LIVES = ["1h", "59m"] as const;

const REFERENCE = "bare node:crypto";
const KEYED_REFERENCE = "bare node:crypto, with a new key";
const CFSSL = { signed: "CFSSL over HTTP, key given", keyed: "CFSSL over HTTP, with a new key" } as const;
const X509 = "X509-SVIDs per second of one core";
const JWT = "JWT-SVIDs per second of one core";
const JWT_BY_CLOCK = "JWT-SVIDs per second of the clock";
const PUSH = "rule applied to SVID on an open stream, ms";

export interface IssuanceOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly identities: number;
}

/** A figure that was promised: `value` is to be at least (or at most) `bound`. */
interface Target {
  readonly what: string;
  readonly value: number | undefined;
  readonly atLeast?: number;
  readonly below?: number;
}

/** Runs all rounds, and prints which targets they meet. */
export async function benchIssuance(options: IssuanceOptions): Promise<BenchResult> {
  const rows: Row[] = [];
  for (let round = 1; round <= options.rounds; round++) {
    for (const row of await measureRound(round, options)) {
      rows.push(row);
      process.stdout.write(`round ${row.round}  ${row.metric}  ${row.peer}  ${row.value.toPrecision(5)}\n`);
    }
  }
  const targets = targetsOf(rows).map(lineOf);
  process.stdout.write(`\n${targets.join("\n")}\n`);
  return { rows, reference: REFERENCE, circumstances: { ...options, load: loadavg(), targets } };
}

async function measureRound(round: number, options: IssuanceOptions): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), "riprap-bench-"));
  const row = (metric: string, peer: string, value: number): Row => ({ round, metric, peer, value });
  try {
    const inside = await measureInside(options);
    const cfssl = await measureCfssl(join(folder, "cfssl"), { seconds: options.seconds, callers: CALLERS });
    const over = await measureOverSocket(join(folder, "socket"), options);
    const idleMb = await measureIdleMemory(join(folder, "idle"));
    return [
      row(X509, REFERENCE, inside["rawSign"] ?? 0),
      row(X509, KEYED_REFERENCE, inside["rawKeyAndSign"] ?? 0),
      ...(cfssl === undefined ? [] : [row(X509, CFSSL.signed, cfssl.signed), row(X509, CFSSL.keyed, cfssl.keyed)]),
      row(X509, "riprap, CA, one commit each", inside["caSingle"] ?? 0),
      row(X509, "riprap, CA, 64 a commit", inside["caBatch"] ?? 0),
      row(X509, "riprap, CA, with new keys", inside["caNewKeys"] ?? 0),
      row(X509, "riprap, socket, a call each", over.x509),
      row(X509, "riprap, socket, open streams", over.renewals),
      row(X509, "riprap, socket, open streams, begun just now", over.young),
      row(JWT, "jose, serial", inside["joseSerial"] ?? 0),
      row(JWT, "riprap, serial", inside["jwtSerial"] ?? 0),
      row(JWT, "riprap, 64 at once", inside["jwtConcurrent"] ?? 0),
      row(JWT, "riprap, socket", over.jwt),
      row(JWT_BY_CLOCK, "jose, serial", inside["joseSerialByClock"] ?? 0),
      row(JWT_BY_CLOCK, "riprap, 64 callers", inside["jwtCallersByClock"] ?? 0),
      row(`${PUSH}, p50`, "riprap, one stream", median(over.push.one)),
      row(`${PUSH}, p99`, "riprap, one stream", percentile(over.push.one)),
      row(`${PUSH}, p50`, `riprap, the last of ${PUSH_STREAMS}`, median(over.push.last)),
      row(`${PUSH}, p99`, `riprap, the last of ${PUSH_STREAMS}`, percentile(over.push.last)),
      ...over.cold.map((value) => row("cold fetch by a Go client, ms", "riprap", value)),
      row(`resident memory, ${IDLE_STREAMS} idle streams, MB`, "riprap", idleMb),
      row(
        "identities renewed at once, each second",
        "riprap",
        (inside["renewed"] ?? 0) / (inside["renewalSeconds"] ?? 1),
      ),
      row(
        "identities whose renewal failed",
        "riprap",
        options.identities - (inside["renewed"] ?? 0) + (inside["renewalsFailed"] ?? 0),
      ),
      row("bytes of memory for each identity", "riprap", inside["bytesPerIdentity"] ?? 0),
    ];
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function measureInside({ seconds, identities }: IssuanceOptions): Promise<Readonly<Record<string, number>>> {
  const program = new Program([process.execPath, join(HERE, "inside.ts"), String(seconds), String(identities)]);
  const figures = await program.ask<Record<string, number>>();
  await program.end();
  return figures;
}

interface Usage {
  readonly cpuSeconds: number;
  readonly issued: number;
}

async function measureOverSocket(folder: string, { seconds }: IssuanceOptions) {
  mkdirSync(folder);
  const goClient = await goSpiffe();
  const relay = await buildRelay();
  const programs = [process.execPath, relay, ...goClient];
  const server = new Program([process.execPath, join(HERE, "server.ts"), folder, ...programs]);
  const { path } = await server.ask<{ path: string }>();
  const relayFolder = join(folder, "relay");
  mkdirSync(relayFolder);
  const relays = new Program([relay, path, relayFolder, String(PUSH_STREAMS)]);
  await relays.ask();
  const client = new Program([process.execPath, join(HERE, "client.ts"), path, relayFolder]);
  /** What a task had signed, by the processor time that the server took for it. */
  const perCore = async (task: () => Promise<{ count: number }>): Promise<number> => {
    const before = await server.ask<Usage>("usage");
    const { count } = await task();
    const after = await server.ask<Usage>("usage");
    return count / (after.cpuSeconds - before.cpuSeconds);
  };
  const cold = goClient.length === 0 ? [] : await coldFetches(goClient[0] as string, path);
  const warm = (task: string) => client.ask(`${task} ${WARM_UP_SECONDS} ${CALLERS}`);
  await warm("x509");
  const x509 = await perCore(() => client.ask(`x509 ${seconds} ${CALLERS}`));
  await warm("jwt");
  const jwt = await perCore(() => client.ask(`jwt ${seconds} ${CALLERS}`));
  await client.ask(`hold_relayed 0 ${PUSH_STREAMS}`);
  const renew = (round: number) => push(server, client, { round, rules: `bench ${LIVES[round % 2]}` });
  const pushed: number[] = [];
  let round = 0;
  const renewUntil = async (last: number) => {
    while (round < last) pushed.push(await renew(++round));
    return { count: PUSH_ROUNDS * PUSH_STREAMS };
  };
  await renewUntil(YOUNG_ROUNDS);
  const young = await perCore(() => renewUntil(YOUNG_ROUNDS + PUSH_ROUNDS));
  await renewUntil(WARM_UP_ROUNDS);
  pushed.length = 0;
  const renewals = await perCore(() => renewUntil(WARM_UP_ROUNDS + PUSH_ROUNDS));
  await client.ask("drop");
  await client.ask("hold 0 1");
  const single: number[] = [];
  for (let count = 1; count <= SINGLE_ROUNDS; count++)
    single.push(await push(server, client, { round: count, rules: `push${count}-` }));
  await client.end();
  await relays.end();
  await server.end();
  return {
    x509,
    young,
    renewals,
    jwt,
    cold,
    push: { one: single, last: pushed },
  };
}

function percentile(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.ceil(PERCENTILE * values.length) - 1] ?? 0;
}

/** Milliseconds from the order of new rules to the last stream's new SVID: by the clock that both processes share. */
async function push(
  server: Program,
  client: Program,
  { round, rules }: { readonly round: number; readonly rules: string },
): Promise<number> {
  const heard = client.ask<{ at: number }>(`heard 0 ${round + 1}`);
  const begun = performance.timeOrigin + performance.now();
  await server.ask(`rules ${rules}`);
  return (await heard).at - begun;
}

async function buildRelay(): Promise<string> {
  await buildLoad("issuance/relay");
  return join(import.meta.dir, "../../.cache/bench/issuance/relay");
}

/** The Go client of the tests, where they have built it. */
async function goSpiffe(): Promise<readonly string[]> {
  const [name] = existsSync(GO_CLIENTS) ? await readdir(GO_CLIENTS) : [];
  return name === undefined ? [] : [join(GO_CLIENTS, name)];
}

async function coldFetches(program: string, path: string): Promise<readonly number[]> {
  const times: number[] = [];
  for (let count = 0; count < 5; count++) {
    const env = { SPIFFE_ENDPOINT_SOCKET: `unix://${path}` };
    const child = Bun.spawn([program], { env, stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    const [first = "{}"] = (await new Response(child.stdout).text()).split("\n");
    times.push((JSON.parse(first) as { tookMs: number }).tookMs);
  }
  return times;
}

function targetsOf(rows: readonly Row[]): readonly Target[] {
  const of = (metric: string, peer = "riprap") => {
    const values = rows.filter((row) => row.metric === metric && row.peer === peer).map(({ value }) => value);
    return values.length === 0 ? undefined : median(values);
  };
  const ratio = (a: number | undefined, b: number | undefined) =>
    a === undefined || b === undefined ? undefined : a / b;
  const stream = of(X509, "riprap, socket, open streams");
  return [
    {
      what: "X509-SVIDs over the socket, to CFSSL that makes keys too",
      value: ratio(stream, of(X509, CFSSL.keyed)),
      atLeast: 4,
    },
    { what: "the same to CFSSL that makes none", value: ratio(stream, of(X509, CFSSL.signed)), atLeast: 4 },
    {
      what: "X509-SVIDs over the socket, to bare signatures",
      value: ratio(stream, of(X509, REFERENCE)),
      atLeast: 0.6,
    },
    {
      what: "X509-SVIDs of the CA, to bare signatures",
      value: ratio(of(X509, "riprap, CA, 64 a commit"), of(X509, REFERENCE)),
      atLeast: 0.6,
    },
    {
      what: "JWT-SVIDs at once, to serial jose",
      value: ratio(of(JWT, "riprap, 64 at once"), of(JWT, "jose, serial")),
      atLeast: 2.5,
    },
    {
      what: "the same by the clock, on all processors",
      value: ratio(of(JWT_BY_CLOCK, "riprap, 64 callers"), of(JWT_BY_CLOCK, "jose, serial")),
      atLeast: 2.5,
    },
    {
      what: `${PUSH}, p99`,
      value: of(`${PUSH}, p99`, "riprap, one stream"),
      below: 100,
    },
    { what: "cold fetch by a Go client, ms", value: of("cold fetch by a Go client, ms"), below: 20 },
    {
      what: `${IDLE_STREAMS} idle streams, MB`,
      value: of(`resident memory, ${IDLE_STREAMS} idle streams, MB`),
      below: 120,
    },
    { what: "identities whose renewal failed", value: of("identities whose renewal failed"), below: 1 },
    { what: "bytes of memory for each identity", value: of("bytes of memory for each identity"), below: 1536 },
  ];
}

function lineOf({ what, value, atLeast, below }: Target): string {
  if (value === undefined) return `not measured  ${what}: its peer is not here`;
  const isMet = atLeast === undefined ? value < (below ?? 0) : value >= atLeast;
  const bound = atLeast === undefined ? `below ${below}` : `at least ${atLeast}`;
  return `${isMet ? "met" : "MISSED"}  ${what}: ${value.toPrecision(3)} (${bound})`;
}
