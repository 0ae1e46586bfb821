// The SPIFFE Workload API of this node, on a Unix socket that everybody may open: who calls is what the kernel says and the rules make of it.

import type { Socket } from "node:net";
import type { JwtAuthority, NodeAuthority, WitAuthority } from "../ca.ts";
import type { Clock } from "../clock.ts";
import { describeError } from "../error.ts";
import type { Store } from "../store.ts";
import type { TrustBundle } from "../trust_bundle.ts";
import type { Attestor } from "./attestation.ts";
import type { BundleBook } from "./bundle.ts";
import type { Condition } from "./condition.ts";
import type { DaemonConfig } from "./config.ts";
import type { Log } from "./log.ts";
import type { EnforcementPlane } from "./plane.ts";
import type { Publication } from "./publication.ts";
import type { Registry } from "./registry.ts";
import type { RuleBook } from "./rule_book.ts";
import type { Caller, ProcessReports } from "./workload_api/caller.ts";
import { createHealth } from "./workload_api/health.ts";
import { identify, tryIdentify } from "./workload_api/identity.ts";
import { SvidIssuer } from "./workload_api/issuer.ts";
import { Ledger } from "./workload_api/ledger.ts";
import { CallerLimits } from "./workload_api/limit.ts";
import { listenForWorkloads } from "./workload_api/listener.ts";
import { LiveStreams } from "./workload_api/live.ts";
import { createReflection } from "./workload_api/reflection.ts";
import { RootBook } from "./workload_api/root_book.ts";
import { createSds, SDS_SERVICE } from "./workload_api/sds.ts";
import type { GrpcOptions, GrpcServer } from "./workload_api/server.ts";
import { createService, type WorkloadCounters } from "./workload_api/service.ts";
import { Tidy } from "./workload_api/tidy.ts";

export interface WorkloadApiParts {
  readonly path: string;
  /** A loopback address where it listens besides. */
  readonly tcp?: { readonly host: string; readonly port: number } | undefined;
  readonly authority: NodeAuthority;
  readonly jwt: Pick<JwtAuthority, "issue">;
  readonly wit?: WitAuthority;
  readonly store: Store;
  readonly attestor: Attestor;
  readonly book: Pick<RuleBook, "resources" | "wanted">;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  /** For a rule that gives none. */
  readonly lifetimeSeconds: number;
  readonly limits?: CallerLimits;
  readonly reports: ProcessReports;
  /** Notified when the rules may have changed. */
  readonly changed: Pick<Condition, "until">;
  bundle(): TrustBundle;
  foreignBundles?(): readonly TrustBundle[];
}

export interface WorkloadApi {
  readonly path: string;
  /** Of TCP; undefined: it does not listen there. */
  readonly port: number | undefined;
  readonly counters: Readonly<WorkloadCounters>;
  /** Open streams. */
  readonly streams: number;
  /** Processes that hold an SVID of it. */
  readonly holders: number;
  /** Answers that an Envoy did not take. */
  readonly rejectedSecrets: number;
  /** X509-SVIDs since the start. */
  readonly svids: { readonly issued: number; readonly revoked: number };
  /** The bundles have changed: open streams are told. Resolves when they are. */
  refresh(): Promise<void>;
  close(): Promise<void>;
}

/** What the daemon has ready for it. */
export interface DaemonRooms {
  readonly attestor: Attestor;
  readonly registry: Registry;
  readonly book: RuleBook;
  readonly changed: Condition;
  readonly plane: Pick<EnforcementPlane, "link">;
  readonly bundles: Pick<BundleBook, "bundles">;
}

export interface DaemonGround {
  readonly config: DaemonConfig;
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Store;
  readonly authority: NodeAuthority;
  readonly publication: Publication;
  readonly random: () => number;
}

/** As the configuration has it; undefined: it is not wanted. Throws what openWorkloadApi throws. */
export async function startWorkloadApi(ground: DaemonGround, rooms: DaemonRooms): Promise<WorkloadApi | undefined> {
  const { config, clock, log, store, authority, publication, random } = ground;
  if (!config.workloadApi) return undefined;
  const { attestor, registry, book, bundles, changed, plane } = rooms;
  return openWorkloadApi({
    ...(publication.wit === undefined ? {} : { wit: publication.wit }),
    ...{ authority, jwt: publication.jwt, store, attestor, book, clock, log, random, changed },
    path: config.workloadSocket,
    tcp: config.workloadTcp,
    lifetimeSeconds: Math.floor(config.svidLifetime / 1000),
    reports: {
      get areComplete() {
        return config.requireKernel || plane.link !== undefined;
      },
      find: (pid) => registry.ofPid(pid)?.evidence,
    },
    bundle: () => publication.bundle(),
    foreignBundles: () => [...bundles.bundles().values()],
  });
}

/** Throws RiprapError `workload_socket` or `control_socket` when the socket cannot be opened. */
export async function openWorkloadApi(parts: WorkloadApiParts): Promise<WorkloadApi> {
  const { log } = parts;
  const limits = parts.limits ?? new CallerLimits();
  const rooms = buildRooms(parts, limits);
  const { counters, issuer, ledger, live, health } = rooms;
  const server = new LateServer({
    services: rooms.services,
    onBug: (thrown) => log.error("a call of the Workload API failed", { error: describeBug(thrown) }),
  });
  const tidy = new Tidy(parts);
  const listener = await listenForWorkloads({
    ...parts,
    limits,
    take(socket, caller) {
      tidy.connected();
      server.take(socket, caller);
    },
    gone: ({ pid, startTimeNs }) => void ledger.lookSoon({ pid, startTimeNs }),
  });
  const stopping = new AbortController();
  const refresh = async () => {
    health.refresh();
    await live.refresh();
  };
  const { signal } = stopping;
  const loops = [live.run(signal), ledger.run(signal), tidy.run(signal), followRules(parts, refresh, signal)];
  for (const loop of loops) {
    loop.catch((thrown: unknown) => log.error("a loop of the daemon ended", { error: describeError(thrown) }));
  }
  log.info("the Workload API is open", { path: parts.path });
  return {
    path: parts.path,
    port: listener.port,
    counters,
    get streams() {
      return live.size;
    },
    get holders() {
      return ledger.size;
    },
    get rejectedSecrets() {
      return rooms.sds.rejected;
    },
    get svids() {
      return { issued: issuer.issued, revoked: ledger.revoked };
    },
    refresh,
    async close() {
      stopping.abort();
      await Promise.allSettled(loops);
      await server.close();
      await listener.close();
    },
  };
}

/** The services by name, as reflection and health know them. */
const SERVICES = ["SpiffeWorkloadAPI", SDS_SERVICE] as const;
const ASIDE = [
  "grpc.health.v1.Health",
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
] as const;

function buildRooms(parts: WorkloadApiParts, limits: CallerLimits) {
  const { authority, clock, log, store } = parts;
  const counters = { calls: 0, refused: 0, limited: 0 };
  const tryWho = (caller: Caller) => tryIdentify(caller, parts);
  const who = async (caller: Caller) => tryWho(caller) ?? identify(caller, parts);
  const ledger = new Ledger({ store, authority, clock, log });
  const issuer = new SvidIssuer({ authority, store, ledger });
  const counted = { clock, limits, counters };
  const health = createHealth(counted, {
    services: SERVICES,
    isServing: () => parts.book.resources !== undefined,
  });
  const foreignBundles = () => parts.foreignBundles?.() ?? [];
  const roots = new RootBook({ bundle: parts.bundle, foreignBundles });
  const look = <T>(work: () => T): T => {
    // A bundle that is new is given its number, which is written: not inside of a look.
    roots.current();
    return store.look(work);
  };
  const live = new LiveStreams({ clock, log, ledger, store: { look }, identify: who, tryIdentify: tryWho });
  const serviceParts = { ...parts, ...counted, live, issuer, ledger, identify: who, foreignBundles, roots };
  const sds = { rejected: 0 };
  const reflection = createReflection(counted, [...SERVICES, ...ASIDE]);
  const services = [createService(serviceParts), createSds({ ...serviceParts, sds }), health.service, ...reflection];
  return { counters, issuer, ledger, live, health, sds, services };
}

/** gRPC takes a tenth of a second to load and 16 MB: a node whose programs do not ask for SVIDs does without. */
class LateServer {
  readonly #options: GrpcOptions;
  #loading: Promise<GrpcServer> | undefined;

  constructor(options: GrpcOptions) {
    this.#options = options;
  }

  take(socket: Socket, caller: Caller): void {
    this.#loading ??= import("./workload_api/server.ts").then(({ createGrpcServer }) =>
      createGrpcServer(this.#options),
    );
    this.#loading.then(
      (server) => {
        if (!socket.destroyed) server.take(socket, caller);
      },
      (thrown) => {
        this.#options.onBug(thrown);
        socket.destroy();
      },
    );
  }

  async close(): Promise<void> {
    (await this.#loading?.catch(() => undefined))?.close();
  }
}

/** With its stack: it is ours. */
function describeBug(thrown: unknown): string {
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : describeError(thrown);
}

/** Rules and trust: whoever changes either notifies. */
async function followRules(
  { authority, book, bundle, changed }: WorkloadApiParts,
  refresh: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const look = () => ({ rules: book.resources, trust: bundle(), epoch: authority.epoch });
  let seen = look();
  const isNew = () => {
    const { rules, trust, epoch } = look();
    return rules !== seen.rules || trust !== seen.trust || epoch !== seen.epoch;
  };
  while (!signal.aborted) {
    await changed.until(isNew, signal).catch(() => undefined);
    if (signal.aborted) return;
    seen = look();
    await refresh();
  }
}
