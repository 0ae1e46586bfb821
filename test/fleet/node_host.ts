// What runs the daemon of a node: this process, where a test owns the clock and the module, or the built binary in a process of its own, as on a machine.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { initTrustDomain } from "../../src/ca.ts";
import { controlClient } from "../../src/cli/client.ts";
import { type Clock, systemClock } from "../../src/clock.ts";
import { parseConfig } from "../../src/daemon/config.ts";
import type { OpenDevice } from "../../src/daemon/device.ts";
import { joinFleet } from "../../src/daemon/fleet/joiner.ts";
import { type Daemon, startDaemon } from "../../src/daemon.ts";
import { RiprapError } from "../../src/error.ts";
import { cached, digestOf, runHost } from "../vm/lab/cache.ts";
import { prepareBinary } from "../vm/lab/product.ts";

/** A disk that many use lets each fsync of a start wait for seconds. */
const PATIENCE_MS = 60_000;

export interface HostedJoin {
  readonly nodeName: string;
  readonly stateDir: string;
  readonly skewMs: number;
}

export interface NodeHost {
  init(as: { readonly trustDomain: string } & HostedJoin): Promise<void>;
  /** Until it answers; its clock is wrong by `skewMs`. */
  start(skewMs: number): Promise<void>;
  stop(): Promise<void>;
  /** Ends it in the middle of whatever it does. */
  kill(): Promise<void>;
  /** Throws the RiprapError that the machine is told. */
  join(token: string, as: HostedJoin): Promise<void>;
}

export interface HostPlace {
  /** Of the configuration file. */
  readonly config: string;
  readonly log: string[];
}

export interface HereOptions extends HostPlace {
  readonly random: () => number;
  readonly openDevice: OpenDevice;
}

/** A daemon in this process. */
export class HostHere implements NodeHost {
  readonly #options: HereOptions;
  #daemon: Daemon | undefined;

  constructor(options: HereOptions) {
    this.#options = options;
  }

  async init({ trustDomain, nodeName, stateDir, skewMs }: Parameters<NodeHost["init"]>[0]): Promise<void> {
    await initTrustDomain({ stateDir, trustDomain, nodeName, clock: clockOf(skewMs) });
  }

  async start(skewMs: number): Promise<void> {
    const { random, openDevice, log } = this.#options;
    this.#daemon = await startDaemon(this.#config(), {
      ...{ random, openDevice, clock: clockOf(skewMs) },
      watch: false,
      environment: {},
      writeLog: (line) => void log.push(line.trim()),
    });
  }

  async stop(): Promise<void> {
    await this.#daemon?.stop();
    this.#daemon = undefined;
  }

  kill(): Promise<void> {
    throw new TypeError("a daemon in this process ends with it");
  }

  async join(token: string, { nodeName, stateDir, skewMs }: HostedJoin): Promise<void> {
    await joinFleet({
      config: { ...this.#config(), stateDir },
      ...{ token, nodeName, clock: clockOf(skewMs), random: this.#options.random },
      signal: AbortSignal.timeout(PATIENCE_MS),
      onProgress: () => undefined,
    });
  }

  #config() {
    return parseConfig(readFileSync(this.#options.config, "utf8"));
  }
}

/** The built binary, as its commands. */
export class HostApart implements NodeHost {
  readonly #place: HostPlace;
  #child: Bun.Subprocess | undefined;

  constructor(place: HostPlace) {
    this.#place = place;
  }

  async init({ trustDomain, nodeName, stateDir, skewMs }: Parameters<NodeHost["init"]>[0]): Promise<void> {
    await this.#command(["init", trustDomain, "--node", nodeName, "--state-dir", stateDir], { skewMs });
  }

  async start(skewMs: number): Promise<void> {
    const { config, log } = this.#place;
    const { controlSocket } = parseConfig(readFileSync(config, "utf8"));
    const child = Bun.spawn([await binary(), "daemon", "--config", config], {
      env: await environmentOf(skewMs),
      ...{ stdin: "ignore", stdout: "ignore", stderr: "pipe" },
    });
    this.#child = child;
    void keepLines(child.stderr, log);
    const client = controlClient(controlSocket);
    for (const end = performance.now() + PATIENCE_MS; ; await Bun.sleep(10)) {
      const isThere = existsSync(controlSocket) && (await client.get("/v1/fleet/status").catch(() => undefined));
      if (isThere) return;
      if (child.exitCode === null && performance.now() < end) continue;
      throw new Error(`the daemon of ${config} did not start: ${log.slice(-5).join("\n")}`);
    }
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    child.kill("SIGTERM");
    const ended = await Promise.race([child.exited, Bun.sleep(PATIENCE_MS)]);
    if (ended === 0) return;
    child.kill("SIGKILL");
    throw new Error(`the daemon of ${this.#place.config} ended with ${ended ?? "a second signal"}`);
  }

  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.exited;
    this.#child = undefined;
  }

  async join(token: string, { nodeName, stateDir, skewMs }: HostedJoin): Promise<void> {
    await this.#command(["join", "-", "--node", nodeName, "--state-dir", stateDir], { skewMs, input: token });
  }

  async #command(words: readonly string[], { skewMs, input = "" }: { skewMs: number; input?: string }): Promise<void> {
    const { config } = this.#place;
    const child = Bun.spawn([await binary(), ...words, "--config", config, "--json"], {
      env: await environmentOf(skewMs),
      ...{ stdin: Buffer.from(input), stdout: "ignore", stderr: "pipe" },
    });
    const [status, said] = await Promise.all([child.exited, child.stderr.text()]);
    if (status === 0) return;
    const line = said.split("\n").findLast((each) => each.startsWith("{"));
    if (line === undefined) throw new Error(`riprap ${words.join(" ")} ended with ${status}: ${said}`);
    const { code, message } = JSON.parse(line) as { code: string; message: string };
    throw new RiprapError(code, message);
  }
}

/** Without a module the daemon is in the identity plane. */
export function writeConfig(path: string, settings: Readonly<Record<string, string>>): void {
  const lines = Object.entries(settings).map(([name, value]) => `${name}: ${value}\n`);
  writeFileSync(path, lines.join(""));
}

const HAS_AVX2 = process.arch === "x64" && / avx2 /.test(readFileSync("/proc/cpuinfo", "utf8"));
const TARGET = process.arch === "arm64" ? "linux-arm64" : HAS_AVX2 ? "linux-x64" : "linux-x64-baseline";

let built: Promise<string> | undefined;

/** The same for the whole of a test, whatever is written into the tree meanwhile. */
function binary(): Promise<string> {
  built ??= prepareBinary(TARGET);
  return built;
}

function clockOf(skewMs: number): Clock {
  return { now: () => systemClock.now() + skewMs, sleep: (ms, signal) => systemClock.sleep(ms, signal) };
}

/** A process has no clock of its own, and a time namespace leaves the wall clock alone: a library answers for it. */
async function environmentOf(skewMs: number): Promise<Record<string, string | undefined>> {
  const environment = { ...process.env, NOTIFY_SOCKET: undefined };
  if (skewMs === 0) return environment;
  return { ...environment, LD_PRELOAD: await skewedClock(), RIPRAP_TEST_SKEW_S: String(Math.round(skewMs / 1000)) };
}

async function skewedClock(): Promise<string> {
  const source = join(import.meta.dir, "skewed_clock.c");
  const directory = await cached("clock", digestOf(readFileSync(source)), async (fresh) => {
    await runHost(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o", join(fresh, "clock.so"), source]);
  });
  return join(directory, "clock.so");
}

async function keepLines(stream: ReadableStream<Uint8Array>, log: string[]): Promise<void> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    log.push(...lines);
  }
}
