// One node of a park: its disk, its configuration, its daemon wherever that runs, and what a person asks of it over the control socket.

import { cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { AuthorityList, StepDone } from "../../src/ca.ts";
import { controlClient } from "../../src/cli/client.ts";
import { runCli } from "../../src/cli.ts";
import { type Clock, systemClock } from "../../src/clock.ts";
import type { RevocationView } from "../../src/daemon/control/port.ts";
import type { OpenDevice } from "../../src/daemon/device.ts";
import type { FleetEvent } from "../../src/daemon/fleet/event.ts";
import type { FleetStatusView } from "../../src/daemon/fleet/port.ts";
import { type RevocationTarget, writeTarget } from "../../src/fleet.ts";
import { fakeTerminal } from "../cli/fake_terminal.ts";
import type { ChaosProxy } from "./chaos_proxy.ts";
import { HostApart, HostHere, type NodeHost, writeConfig } from "./node_host.ts";

const PATIENCE_MS = 20_000;

export interface JoinAs {
  readonly skewMs?: number;
  readonly nodeName?: string;
  /** On a disk of its own, as another machine. */
  readonly elsewhere?: boolean;
}

export interface NodePlace {
  readonly folder: string;
  readonly trustDomain: string;
  readonly proxies: readonly ChaosProxy[];
  readonly random: () => number;
  readonly workloadApi: boolean;
  /** Undefined: a process of its own. */
  readonly openDevice: OpenDevice | undefined;
  readonly settings: Readonly<Record<string, string>>;
}

export class ParkNode {
  readonly name: string;
  /** One before each server. */
  readonly proxies: readonly ChaosProxy[];
  readonly stateDir: string;
  readonly log: string[] = [];
  readonly workloadSocket: string;
  /** Added to the machine's time from the next start on. */
  skewMs = 0;
  readonly #place: NodePlace;
  readonly #controlSocket: string;
  readonly #config: string;
  readonly #host: NodeHost;

  constructor(name: string, place: NodePlace) {
    const { folder, proxies, random, workloadApi, openDevice, settings } = place;
    this.name = name;
    this.#place = place;
    this.proxies = proxies;
    this.stateDir = join(folder, "state");
    this.workloadSocket = join(folder, "workload.sock");
    this.#controlSocket = join(folder, "control.sock");
    mkdirSync(join(folder, "rules"), { recursive: true });
    mkdirSync(this.stateDir, { mode: 0o700 });
    const config = join(folder, "riprap.yaml");
    this.#config = config;
    writeConfig(config, {
      stateDir: this.stateDir,
      rulesDir: join(folder, "rules"),
      controlSocket: this.#controlSocket,
      workloadApi: String(workloadApi),
      workloadSocket: this.workloadSocket,
      device: join(folder, "no_device"),
      keyCustody: "file",
      logLevel: "debug",
      natsServers: proxies.map(({ url }) => url).join(","),
      ...settings,
    });
    const { log } = this;
    this.#host =
      openDevice === undefined ? new HostApart({ config, log }) : new HostHere({ config, log, random, openDevice });
  }

  /** As its machine has it. */
  get clock(): Clock {
    return { now: () => systemClock.now() + this.skewMs, sleep: systemClock.sleep };
  }

  /** As the first of its trust domain. */
  init(): Promise<void> {
    const { stateDir, skewMs, name: nodeName } = this;
    return this.#host.init({ trustDomain: this.#place.trustDomain, nodeName, stateDir, skewMs });
  }

  start(): Promise<void> {
    return this.#host.start(this.skewMs);
  }

  stop(): Promise<void> {
    return this.#host.stop();
  }

  /** Without a chance to end what it does; of a process alone. */
  kill(): Promise<void> {
    return this.#host.kill();
  }

  status(): Promise<FleetStatusView> {
    return this.#client.get<FleetStatusView>("/v1/fleet/status");
  }

  /** `kind/name` of each resource in force. */
  async resources(): Promise<readonly string[]> {
    const views = await this.#client.get<readonly { kind: string; name: string }[]>("/v1/resources");
    return views.map(({ kind, name }) => `${kind}/${name}`).sort();
  }

  events(): Promise<readonly FleetEvent[]> {
    return this.#client.get<readonly FleetEvent[]>("/v1/fleet/log", { query: { limit: "1000" } });
  }

  /** Compares with every node. */
  async converge(): Promise<void> {
    await this.#client.post("/v1/fleet/converge", { waitMs: PATIENCE_MS });
  }

  async token(options: Record<string, unknown> = {}): Promise<string> {
    const request = { idPrefixes: [`spiffe://${this.#place.trustDomain}/`], lifetimeMs: 600_000, ...options };
    return (await this.#client.post<{ token: string }>("/v1/fleet/tokens", { body: JSON.stringify(request) })).token;
  }

  async revoke(target: RevocationTarget): Promise<void> {
    await this.#client.post("/v1/fleet/revoke", { query: { target: writeTarget(target), reason: "a test says so" } });
  }

  /** `riprap revoke TARGET`. */
  command(target: string): Promise<RevocationView> {
    return this.#client.post<RevocationView>("/v1/revoke", { query: { target, reason: "a test says so" } });
  }

  authorities(): Promise<AuthorityList> {
    return this.#client.get<AuthorityList>("/v1/authorities");
  }

  /** A step of an authority's life. */
  authority(
    step: "prepare" | "activate" | "taint" | "revoke",
    query: Readonly<Record<string, string>>,
  ): Promise<StepDone> {
    return this.#client.post<StepDone>(`/v1/authorities/${step}`, { query, waitMs: PATIENCE_MS });
  }

  /** Answers the state directory of the machine that joined. */
  async join(
    token: string,
    { skewMs = this.skewMs, nodeName = this.name, elsewhere = false }: JoinAs = {},
  ): Promise<string> {
    const stateDir = elsewhere ? mkdtempSync(join(this.#place.folder, "elsewhere-")) : this.stateDir;
    await this.#host.join(token, { nodeName, stateDir, skewMs });
    return stateDir;
  }

  /** What a command prints that does what it is asked. */
  async riprap(...words: readonly string[]): Promise<string> {
    const terminal = fakeTerminal();
    const status = await runCli([...words, "--config", this.#config], terminal);
    if (status !== 0) throw new Error(`riprap ${words.join(" ")}: ${terminal.err.join()}`);
    return terminal.out.join("\n");
  }

  /** Asks for the next intermediate. */
  async renew(): Promise<void> {
    await this.#client.post("/v1/fleet/renew", { waitMs: PATIENCE_MS });
  }

  /** The JWT keys of the trust domain as this node publishes them. */
  jwks(): Promise<string> {
    return this.#client.text(`/v1/bundles/${this.#place.trustDomain}?format=jwks`);
  }

  metrics(): Promise<string> {
    return this.#client.text("/metrics");
  }

  /** Puts statements to the daemon, as a person does; throws the reason of the first that is refused. */
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

  /** A copy of its disk, while it stands still; put back by `restore`. */
  snapshot(): void {
    cpSync(this.stateDir, join(this.#place.folder, "snapshot"), { recursive: true });
  }

  restore(): void {
    rmSync(this.stateDir, { recursive: true });
    cpSync(join(this.#place.folder, "snapshot"), this.stateDir, { recursive: true });
  }

  get #client() {
    return controlClient(this.#controlSocket);
  }
}
