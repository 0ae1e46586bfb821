// Real daemons of one trust domain in this process, in the identity plane, each behind a proxy of its own to real NATS servers; and the person who runs them.

import { cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AuthorityList, initTrustDomain, openNodeKeys, type StepDone } from "../../src/ca.ts";
import { controlClient } from "../../src/cli/client.ts";
import { type Clock, systemClock } from "../../src/clock.ts";
import { type DaemonConfig, parseConfig } from "../../src/daemon/config.ts";
import type { RevocationView } from "../../src/daemon/control/port.ts";
import type { OpenDevice } from "../../src/daemon/device.ts";
import type { FleetEvent } from "../../src/daemon/fleet/event.ts";
import { joinFleet } from "../../src/daemon/fleet/joiner.ts";
import { openOperatorKey } from "../../src/daemon/fleet/member.ts";
import type { FleetStatusView } from "../../src/daemon/fleet/port.ts";
import { type Daemon, startDaemon } from "../../src/daemon.ts";
import { RiprapError } from "../../src/error.ts";
import { draftResource } from "../../src/federation/resource_claim.ts";
import { signStatement } from "../../src/federation/statement.ts";
import type { RevocationTarget } from "../../src/fleet.ts";
import { writeTarget } from "../../src/fleet.ts";
import { random as seededRandom } from "../random.ts";
import { type ChaosProxy, openChaosProxy } from "./chaos_proxy.ts";
import type { NatsServer } from "./nats_server.ts";

export const TRUST_DOMAIN = "park.example";
const PATIENCE_MS = 20_000;

export interface JoinAs {
  readonly skewMs?: number;
  readonly nodeName?: string;
  /** On a disk of its own, as another machine. */
  readonly elsewhere?: boolean;
}

export interface ParkNode {
  readonly name: string;
  /** One before each server. */
  readonly proxies: readonly ChaosProxy[];
  readonly stateDir: string;
  readonly workloadSocket: string;
  readonly log: string[];
  /** Added to the machine's time from the next start on. */
  skewMs: number;
  start(): Promise<void>;
  stop(): Promise<void>;
  status(): Promise<FleetStatusView>;
  events(): Promise<readonly FleetEvent[]>;
  /** Compares with every node. */
  converge(): Promise<void>;
  token(options?: Record<string, unknown>): Promise<string>;
  revoke(target: RevocationTarget): Promise<void>;
  /** `riprap revoke TARGET`. */
  command(target: string): Promise<RevocationView>;
  authorities(): Promise<AuthorityList>;
  /** A step of an authority's life. */
  authority(
    step: "prepare" | "activate" | "taint" | "revoke",
    query: Readonly<Record<string, string>>,
  ): Promise<StepDone>;
  join(token: string, options?: JoinAs): Promise<void>;
  /** Asks for the next intermediate. */
  renew(): Promise<void>;
  metrics(): Promise<string>;
  /** The JWT keys of the trust domain as this node publishes them. */
  jwks(): Promise<string>;
  /** Puts statements to the daemon, as a person does; throws the reason of the first that is refused. */
  say(statements: readonly Uint8Array[]): Promise<void>;
  /** A copy of its disk, while it stands still; put back by `restore`. */
  snapshot(): void;
  restore(): void;
}

export interface Park {
  readonly nodes: readonly ParkNode[];
  /** Says a resource to the fleet with the operator's key of the first node, by way of `by`. */
  apply(document: unknown, by: ParkNode): Promise<void>;
  /** Until it holds on every one of these nodes. */
  until(
    what: string,
    holds: (views: readonly FleetStatusView[]) => boolean,
    nodes?: readonly ParkNode[],
  ): Promise<void>;
  /** Without chaos, until all know the same. */
  settle(nodes?: readonly ParkNode[]): Promise<readonly FleetStatusView[]>;
  leave(): Promise<void>;
}

export interface ParkOptions {
  /** Serve the Workload API on each node. */
  readonly workloadApi?: boolean;
  /** The module of each node; without it a node is in the identity plane. */
  readonly openDevice?: (index: number) => OpenDevice;
  /** Added to the configuration of each. */
  readonly settings?: (index: number) => Readonly<Record<string, string>>;
}

export async function openFleetPark(
  servers: readonly NatsServer[],
  size: number,
  seed: number,
  options: ParkOptions = {},
): Promise<Park> {
  const folder = mkdtempSync(join(tmpdir(), "riprap-fleet-"));
  const random = seededRandom(seed);
  const nodes: LocalNode[] = [];
  for (let i = 0; i < size; i++) {
    const open = (server: NatsServer, j: number) =>
      openChaosProxy(() => server.port, seededRandom(seed * 1000 + 10 * i + j));
    const proxies = await Promise.all(servers.map(open));
    const openDevice = options.openDevice?.(i) ?? noDevice;
    const workloadApi = options.workloadApi ?? false;
    nodes.push(
      new LocalNode(join(folder, `node-${i}`), `node-${i}`, {
        proxies,
        random,
        workloadApi,
        openDevice,
        settings: options.settings?.(i) ?? {},
      }),
    );
  }
  const [first, ...rest] = nodes as [LocalNode, ...LocalNode[]];
  const { stateDir } = first;
  await initTrustDomain({ stateDir, trustDomain: TRUST_DOMAIN, nodeName: first.name, clock: systemClock });
  await first.start();
  for (const node of rest) {
    await node.join(await first.token());
    await node.start();
  }
  const park = new LocalPark(nodes, folder);
  await park.settle();
  return park;
}

function noDevice(): never {
  throw new RiprapError("ENOENT", "there is no module here");
}

interface NodePlace {
  readonly proxies: readonly ChaosProxy[];
  readonly random: () => number;
  readonly workloadApi: boolean;
  readonly openDevice: OpenDevice;
  readonly settings: Readonly<Record<string, string>>;
}

class LocalNode implements ParkNode {
  readonly name: string;
  /** One before each server. */
  readonly proxies: readonly ChaosProxy[];
  readonly stateDir: string;
  readonly log: string[] = [];
  readonly workloadSocket: string;
  skewMs = 0;
  readonly #folder: string;
  readonly #config: DaemonConfig;
  readonly #random: () => number;
  readonly #openDevice: OpenDevice;
  #daemon: Daemon | undefined;

  constructor(folder: string, name: string, { proxies, random, workloadApi, openDevice, settings }: NodePlace) {
    this.#openDevice = openDevice;
    this.#folder = folder;
    this.name = name;
    this.proxies = proxies;
    this.#random = random;
    this.stateDir = join(folder, "state");
    this.workloadSocket = join(folder, "workload.sock");
    mkdirSync(join(folder, "rules"), { recursive: true });
    mkdirSync(this.stateDir, { mode: 0o700 });
    this.#config = parseConfig(
      [
        `stateDir: ${this.stateDir}`,
        `rulesDir: ${join(folder, "rules")}`,
        `controlSocket: ${join(folder, "control.sock")}`,
        `workloadApi: ${workloadApi}`,
        `workloadSocket: ${join(folder, "workload.sock")}`,
        "keyCustody: file",
        "logLevel: debug",
        `natsServers: ${proxies.map(({ url }) => url).join(",")}`,
        ...Object.entries(settings).map(([setting, value]) => `${setting}: ${value}`),
        "",
      ].join("\n"),
    );
  }

  async start(): Promise<void> {
    this.#daemon = await startDaemon(this.#config, {
      clock: this.#clock(this.skewMs),
      random: this.#random,
      watch: false,
      environment: {},
      openDevice: this.#openDevice,
      writeLog: (line) => void this.log.push(line.trim()),
    });
  }

  async stop(): Promise<void> {
    await this.#daemon?.stop();
    this.#daemon = undefined;
  }

  get isRunning(): boolean {
    return this.#daemon !== undefined;
  }

  status(): Promise<FleetStatusView> {
    return this.#client.get<FleetStatusView>("/v1/fleet/status");
  }

  events(): Promise<readonly FleetEvent[]> {
    return this.#client.get<readonly FleetEvent[]>("/v1/fleet/log", { query: { limit: "1000" } });
  }

  async converge(): Promise<void> {
    await this.#client.post("/v1/fleet/converge", { waitMs: PATIENCE_MS });
  }

  async token(options: Record<string, unknown> = {}): Promise<string> {
    const request = { idPrefixes: [`spiffe://${TRUST_DOMAIN}/`], lifetimeMs: 600_000, ...options };
    return (await this.#client.post<{ token: string }>("/v1/fleet/tokens", { body: JSON.stringify(request) })).token;
  }

  async command(target: string): Promise<RevocationView> {
    return this.#client.post<RevocationView>("/v1/revoke", { query: { target, reason: "a test says so" } });
  }

  async revoke(target: RevocationTarget): Promise<void> {
    await this.#client.post("/v1/fleet/revoke", { query: { target: writeTarget(target), reason: "a test says so" } });
  }

  authorities(): Promise<AuthorityList> {
    return this.#client.get<AuthorityList>("/v1/authorities");
  }

  authority(step: string, query: Readonly<Record<string, string>>): Promise<StepDone> {
    return this.#client.post<StepDone>(`/v1/authorities/${step}`, { query, waitMs: PATIENCE_MS });
  }

  async join(token: string, { skewMs = 0, nodeName = this.name, elsewhere = false }: JoinAs = {}): Promise<void> {
    const stateDir = elsewhere ? mkdtempSync(join(this.#folder, "elsewhere-")) : this.stateDir;
    await joinFleet({
      config: { ...this.#config, stateDir },
      token,
      nodeName,
      clock: this.#clock(skewMs),
      random: this.#random,
      signal: AbortSignal.timeout(PATIENCE_MS),
      onProgress: () => undefined,
    });
  }

  async renew(): Promise<void> {
    await this.#client.post("/v1/fleet/renew", { waitMs: PATIENCE_MS });
  }

  jwks(): Promise<string> {
    return this.#client.text(`/v1/bundles/${TRUST_DOMAIN}?format=jwks`);
  }

  metrics(): Promise<string> {
    return this.#client.text("/metrics");
  }

  /** Puts statements of a person to the daemon. */
  async say(statements: readonly Uint8Array[]): Promise<void> {
    const body = JSON.stringify(statements.map((bytes) => Buffer.from(bytes).toString("base64")));
    const said = await this.#client.post<readonly { taken: boolean; reason?: string }[]>("/v1/fleet/statements", {
      body,
    });
    for (const { taken, reason } of said) if (!taken) throw new Error(reason);
  }

  async nextRevision(kind: string, name: string): Promise<number> {
    const query = { kind, name };
    const answer = await this.#client.get<{ revision: number }>("/v1/fleet/revision", { query }).catch(() => undefined);
    return answer?.revision ?? 1;
  }

  snapshot(): void {
    cpSync(this.stateDir, join(this.#folder, "snapshot"), { recursive: true });
  }

  restore(): void {
    rmSync(this.stateDir, { recursive: true });
    cpSync(join(this.#folder, "snapshot"), this.stateDir, { recursive: true });
  }

  get #client() {
    return controlClient(this.#config.controlSocket);
  }

  #clock(skewMs: number): Clock {
    return { now: () => systemClock.now() + skewMs, sleep: (ms, signal) => systemClock.sleep(ms, signal) };
  }
}

class LocalPark implements Park {
  readonly nodes: readonly LocalNode[];
  readonly #folder: string;

  constructor(nodes: readonly LocalNode[], folder: string) {
    this.nodes = nodes;
    this.#folder = folder;
  }

  async apply(document: unknown, by: ParkNode): Promise<void> {
    const [first] = this.nodes;
    const signer = openOperatorKey(openNodeKeys(first?.stateDir ?? ""));
    if (signer === undefined) throw new RangeError("the first node has the operator's key");
    const node = this.nodes.find(({ name }) => name === by.name) ?? first;
    const { kind, metadata } = document as { kind: string; metadata: { name: string } };
    const revision = (await node?.nextRevision(kind, metadata.name)) ?? 1;
    const time = systemClock.now();
    const draft = draftResource({ trustDomain: TRUST_DOMAIN, document, scope: { type: "all" }, revision, time });
    await node?.say([signStatement(draft, signer).bytes]);
  }

  async until(
    what: string,
    holds: (views: readonly FleetStatusView[]) => boolean,
    nodes: readonly ParkNode[] = this.nodes,
  ): Promise<void> {
    const limit = performance.now() + PATIENCE_MS;
    let views: readonly FleetStatusView[] = [];
    while (performance.now() < limit) {
      views = await Promise.all(nodes.map((node) => node.status()));
      if (holds(views)) return;
      await Bun.sleep(20);
    }
    const seen = views.map(({ node, state, root, generation, nodes: all }) => {
      const applied = all.map(({ name, applied: each }) => `${name}:${each?.digest}`).join(" ");
      return `${node} ${state} ${root} ${generation.digest} ${applied}`;
    });
    throw new Error(`never came true: ${what}\n${seen.join("\n")}`);
  }

  async settle(nodes: readonly ParkNode[] = this.nodes): Promise<readonly FleetStatusView[]> {
    const areConnected = (views: readonly FleetStatusView[]) => views.every(({ state }) => state === "connected");
    await this.until("all are connected", areConnected, nodes);
    const limit = performance.now() + PATIENCE_MS;
    while (performance.now() < limit) {
      await Promise.all(nodes.map((node) => node.converge()));
      const views = await Promise.all(nodes.map((node) => node.status()));
      const names = new Set(nodes.map(({ name }) => name));
      const isSame = new Set(views.map(({ root }) => root)).size === 1;
      const isApplied = views.every(({ nodes: all }) =>
        all.every(({ name, isCurrent }) => isCurrent || !names.has(name)),
      );
      if (isSame && isApplied) return views;
      await Bun.sleep(100);
    }
    throw new Error("the nodes did not come to know the same");
  }

  async leave(): Promise<void> {
    for (const node of this.nodes) await node.stop();
    for (const proxy of this.nodes.flatMap(({ proxies }) => proxies)) await proxy.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** A rule that gives an ID, different for each number. */
export function identityDocument(number: number, path = `w/${number}`): unknown {
  return {
    apiVersion: "riprap.io/v1",
    kind: "WorkloadIdentity",
    metadata: { name: `identity-${number}` },
    spec: { workloadID: path, selectors: [{ "process:name": `program-${number}` }] },
  };
}
