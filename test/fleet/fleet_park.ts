// Real daemons of one trust domain, each behind a proxy of its own to real NATS servers, in this process or each in its own; and the person who runs them.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openNodeKeys } from "../../src/ca.ts";
import { systemClock } from "../../src/clock.ts";
import type { OpenDevice } from "../../src/daemon/device.ts";
import { openOperatorKey } from "../../src/daemon/fleet/member.ts";
import type { FleetStatusView } from "../../src/daemon/fleet/port.ts";
import { RiprapError } from "../../src/error.ts";
import { draftResource } from "../../src/federation/resource_claim.ts";
import { signStatement } from "../../src/federation/statement.ts";
import { random as seededRandom } from "../random.ts";
import { openChaosProxy } from "./chaos_proxy.ts";
import type { NatsServer } from "./nats_server.ts";
import { ParkNode } from "./park_node.ts";

export type { ParkNode } from "./park_node.ts";

export const TRUST_DOMAIN = "park.example";
/** Some comparisons of two nodes on a busy machine. */
const PATIENCE_MS = 60_000;

export interface Park {
  readonly nodes: readonly ParkNode[];
  /** One more that has joined and does not run yet. */
  enrol(settings: Readonly<Record<string, string>>): Promise<ParkNode>;
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
  /** Each daemon is the built binary in a process of its own, and has no module. */
  readonly areApart?: boolean;
  /** Of every machine, from the beginning. */
  readonly skewMs?: number;
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
  const { areApart = false, workloadApi = false, skewMs = 0 } = options;
  const make = async (i: number, settings = options.settings?.(i) ?? {}) => {
    const open = (server: NatsServer, j: number) =>
      openChaosProxy(() => server.port, seededRandom(seed * 1000 + 10 * i + j));
    const proxies = await Promise.all(servers.map(open));
    const openDevice = areApart ? undefined : (options.openDevice?.(i) ?? noDevice);
    const place = { folder: join(folder, `node-${i}`), trustDomain: TRUST_DOMAIN, proxies, random, workloadApi };
    const node = new ParkNode(`node-${i}`, { ...place, openDevice, settings });
    node.skewMs = skewMs;
    return node;
  };
  const nodes = await Promise.all(Array.from({ length: size }, (_, i) => make(i)));
  const [first, ...rest] = nodes as [ParkNode, ...ParkNode[]];
  const park = new LocalPark(nodes, { folder, make });
  try {
    await first.init();
    await first.start();
    await park.until("it can be asked", ([view]) => view?.state === "connected", [first]);
    for (const node of rest) {
      await node.join(await first.token());
      await node.start();
    }
    await park.settle();
    return park;
  } catch (thrown) {
    await park.leave();
    throw thrown;
  }
}

function noDevice(): never {
  throw new RiprapError("ENOENT", "there is no module here");
}

interface ParkPlace {
  readonly folder: string;
  make(index: number, settings: Readonly<Record<string, string>>): Promise<ParkNode>;
}

class LocalPark implements Park {
  readonly nodes: ParkNode[];
  readonly #place: ParkPlace;

  constructor(nodes: ParkNode[], place: ParkPlace) {
    this.nodes = nodes;
    this.#place = place;
  }

  async enrol(settings: Readonly<Record<string, string>>): Promise<ParkNode> {
    const node = await this.#place.make(this.nodes.length, settings);
    await node.join((await this.nodes[0]?.token()) ?? "");
    this.nodes.push(node);
    return node;
  }

  async apply(document: unknown, by: ParkNode): Promise<void> {
    const [first] = this.nodes;
    const signer = openOperatorKey(openNodeKeys(first?.stateDir ?? ""));
    if (signer === undefined) throw new RangeError("the first node has the operator's key");
    const node = this.nodes.find(({ name }) => name === by.name) ?? first;
    const { kind, metadata } = document as { kind: string; metadata: { name: string } };
    const revision = (await node?.nextRevision(kind, metadata.name)) ?? 1;
    const time = systemClock.now() + (node?.skewMs ?? 0);
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
    for (let wait = 20; performance.now() < limit; wait = Math.min(250, wait * 1.3)) {
      views = await Promise.all(nodes.map((node) => node.status()));
      if (holds(views)) return;
      await Bun.sleep(wait);
    }
    throw new Error(`never came true: ${what}\n${describe(views)}`);
  }

  async settle(nodes: readonly ParkNode[] = this.nodes): Promise<readonly FleetStatusView[]> {
    const areConnected = (views: readonly FleetStatusView[]) => views.every(({ state }) => state === "connected");
    await this.until("all are connected", areConnected, nodes);
    const limit = performance.now() + PATIENCE_MS;
    let views: readonly FleetStatusView[] = [];
    while (performance.now() < limit) {
      await Promise.all(nodes.map((node) => node.converge()));
      views = await Promise.all(nodes.map((node) => node.status()));
      const names = new Set(nodes.map(({ name }) => name));
      const isSame = new Set(views.map(({ root }) => root)).size === 1;
      const isApplied = views.every(({ nodes: all }) =>
        all.every(({ name, isCurrent }) => isCurrent || !names.has(name)),
      );
      if (isSame && isApplied) return views;
      await Bun.sleep(100);
    }
    throw new Error(`the nodes did not come to know the same\n${describe(views)}`);
  }

  async leave(): Promise<void> {
    for (const node of this.nodes) await node.stop();
    for (const proxy of this.nodes.flatMap(({ proxies }) => proxies)) await proxy.close();
    rmSync(this.#place.folder, { recursive: true, force: true });
  }
}

function describe(views: readonly FleetStatusView[]): string {
  const lines = views.map(({ node, state, root, generation, nodes }) => {
    const applied = nodes
      .map(({ name, applied: each, failure = "" }) => `${name}:${each?.digest} ${failure}`)
      .join(" ");
    return `${node} ${state} ${root} ${generation.digest} ${applied}`;
  });
  return lines.join("\n");
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
