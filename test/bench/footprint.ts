// What the daemon itself takes, natively and without the module: resident memory when idle, and the time from its start to the
// first X509-SVID, beside a bare compiled Bun server's memory and its time to listen.
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { identityRule, openClient, type WorkloadClient } from "../daemon/workload_api/endpoint.ts";
import { buildBinary } from "../run/build.ts";
import type { Row } from "./table.ts";

const BARE_SERVER = join(import.meta.dir, "bare_server.ts");
const IDENTITY_WEIGHT = join(import.meta.dir, "identity_weight.ts");
const SETTLE_MS = 3000;

/** What the daemon loads beside its own code: a bare server with each alone says what each brings. */
const LIBRARIES = ["@grpc/grpc-js", "@peculiar/x509", "nats", "yaml", "jose", "hono", "bun:sqlite"];

/** Where resident pages belong, by their line in /proc/PID/smaps. */
const KINDS: readonly [kind: string, line: RegExp][] = [
  ["code of the runtime", / r-xp .*\/(riprap|bare_server)/],
  ["its data, and our code in it", / r\S+ .*\/(riprap|bare_server)/],
  ["memory of its own", / rw-p \S+ \S+ 0 +(\[heap\])?$/],
  ["code made at run time", / rwxp /],
  ["libraries and the rest", /./],
];
const RESIDENT = "resident memory when idle, MiB";
const START_LIMIT_MS = 20_000;

interface Started {
  readonly ms: number;
  /** By kind. */
  readonly residentKib: ReadonlyMap<string, number>;
}

/** Rows of each round: both programs in turn. */
export async function measureFootprint(rounds: number, output: string): Promise<Row[]> {
  await mkdir(output, { recursive: true });
  const [bare, riprap] = [join(output, "bare_server"), join(output, "riprap")];
  await buildBinary("linux-x64", riprap);
  buildBare(bare, BARE_SERVER);
  const rows: Row[] = [];
  for (let round = 1; round <= rounds; round++) {
    const found = { "bare Bun server": await startBare(bare), riprap: await startDaemon(riprap) };
    for (const [peer, { ms, residentKib }] of Object.entries(found)) {
      rows.push({ round, peer, metric: "start to first answer, ms", value: ms });
      rows.push({ round, peer, metric: RESIDENT, value: sumMib(residentKib) });
      for (const [kind, kib] of residentKib)
        rows.push({ round, peer, metric: `${RESIDENT}: ${kind}`, value: kib / 1024 });
    }
  }
  for (const library of LIBRARIES) rows.push(await weighLibrary(output, library));
  rows.push(weighIdentity());
  return rows;
}

function weighIdentity(): Row {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, IDENTITY_WEIGHT]);
  if (exitCode !== 0) throw new Error(stderr.toString());
  const metric = "the daemon's heap for each process with an identity, bytes";
  return { round: 1, peer: "riprap", metric, value: Number(stdout.toString()) };
}

function buildBare(outfile: string, source: string): void {
  const build = Bun.spawnSync([
    process.execPath,
    "build",
    "--compile",
    "--bytecode",
    "--format=esm",
    `--outfile=${outfile}`,
    source,
  ]);
  if (build.exitCode !== 0) throw new Error(build.stderr.toString());
}

/** `output` is below the project, where the import is found. */
async function weighLibrary(output: string, library: string): Promise<Row> {
  const binary = join(output, "bare_server_with_library");
  const text = await Bun.file(BARE_SERVER).text();
  await writeFile(`${binary}.ts`, `import * as library from "${library}";\n${text}globalThis.library = library;\n`);
  buildBare(binary, `${binary}.ts`);
  const { residentKib } = await startBare(binary);
  return { round: 1, peer: `bare Bun server with ${library}`, metric: RESIDENT, value: sumMib(residentKib) };
}

function sumMib(kib: ReadonlyMap<string, number>): number {
  return [...kib.values()].reduce((sum, each) => sum + each, 0) / 1024;
}

async function startBare(binary: string): Promise<Started> {
  const begin = performance.now();
  const child = Bun.spawn([binary], { stdout: "pipe", stderr: "inherit" });
  await child.stdout.getReader().read();
  const ms = performance.now() - begin;
  return { ms, residentKib: await settle(child) };
}

async function startDaemon(binary: string): Promise<Started> {
  const folder = await mkdtemp(join(tmpdir(), "riprap-footprint-"));
  const path = (name: string) => join(folder, name);
  const config = `stateDir: ${path("state")}
rulesDir: ${path("rules.d")}
controlSocket: ${path("control.sock")}
workloadSocket: ${path("workload.sock")}
device: ${path("no-device")}
`;
  try {
    await mkdir(path("state"), { mode: 0o700 });
    await mkdir(path("rules.d"), { mode: 0o700 });
    await writeFile(path("rules.d/bench.yaml"), identityRule("bench"), { mode: 0o600 });
    await writeFile(path("riprap.yaml"), config, { mode: 0o600 });
    const init = Bun.spawnSync([binary, "init", "bench.example", "--config", path("riprap.yaml")]);
    if (init.exitCode !== 0) throw new Error(init.stderr.toString());
    const begin = performance.now();
    const child = Bun.spawn([binary, "daemon", "--config", path("riprap.yaml")], {
      stdout: "ignore",
      stderr: "ignore",
    });
    try {
      await fetchFirst(path("workload.sock"), begin + START_LIMIT_MS);
      return { ms: performance.now() - begin, residentKib: await settle(child) };
    } finally {
      child.kill();
      await child.exited;
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Asks as soon as the socket is there, and again where the rules are not in force yet. */
async function fetchFirst(socket: string, deadline: number): Promise<void> {
  while (!existsSync(socket)) {
    if (performance.now() > deadline) throw new Error(`no ${socket}`);
    await Bun.sleep(1);
  }
  const client = openClient(socket);
  try {
    for (let failure = await fetchOnce(client); failure !== undefined; failure = await fetchOnce(client))
      if (performance.now() > deadline) throw failure;
  } finally {
    client.close();
  }
}

async function fetchOnce(client: WorkloadClient): Promise<Error | undefined> {
  const stream = client.stream("FetchX509SVID");
  const failure = await new Promise<Error | undefined>((resolve) => {
    stream.once("data", () => resolve(undefined));
    stream.on("error", resolve);
  });
  stream.cancel();
  return failure;
}

async function settle(child: Bun.Subprocess): Promise<ReadonlyMap<string, number>> {
  await Bun.sleep(SETTLE_MS);
  const smaps = await Bun.file(`/proc/${child.pid}/smaps`).text();
  child.kill();
  await child.exited;
  return residentByKind(smaps);
}

function residentByKind(smaps: string): Map<string, number> {
  const resident = new Map<string, number>();
  for (const part of smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const [kind = ""] = KINDS.find(([, line]) => line.test(part.split("\n")[0] ?? "")) ?? [];
    const kib = Number(/^Rss:\s+(\d+)/m.exec(part)?.[1] ?? 0);
    resident.set(kind, (resident.get(kind) ?? 0) + kib);
  }
  return resident;
}
