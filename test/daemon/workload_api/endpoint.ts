// A Workload API over a CA of its own, with rules that a test writes, and the client of an independent protobuf library.

import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import {
  type Client,
  type ClientReadableStream,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import {
  type Authorities,
  initTrustDomain,
  type JwtAuthority,
  type NodeAuthority,
  openAuthorities,
  openAuthority,
  openJwtAuthority,
  openWitAuthority,
  trustBundle,
} from "../../../src/ca.ts";
import { type Clock, systemClock } from "../../../src/clock.ts";
import { wantedLabels } from "../../../src/daemon/attestation/wanted.ts";
import { createAttestor } from "../../../src/daemon/attestation.ts";
import { Condition } from "../../../src/daemon/condition.ts";
import { createLog } from "../../../src/daemon/log.ts";
import { NO_REPORTS, type ProcessReports } from "../../../src/daemon/workload_api/caller.ts";
import { CallerLimits, type Limits } from "../../../src/daemon/workload_api/limit.ts";
import { openWorkloadApi, type WorkloadApi } from "../../../src/daemon/workload_api.ts";
import { parseResources, type ResourceSet } from "../../../src/resource.ts";
import { SpiffeId, TrustDomain } from "../../../src/spiffe_id.ts";
import { openStore, type Store, storePath } from "../../../src/store.ts";
import type { TrustBundle } from "../../../src/trust_bundle.ts";

export interface Endpoint {
  readonly path: string;
  readonly api: WorkloadApi;
  /** As it was at the start. */
  readonly bundle: TrustBundle;
  readonly jwt: JwtAuthority;
  readonly store: Store;
  readonly log: string[];
  /** Puts other rules in force, as the daemon does. */
  setRules(text: string): void;
  /** The same in two steps: reads them, and answers how to put them in force. */
  readRules(text: string): () => void;
  /** As before the first rules are in force. */
  dropRules(): void;
  /** Another bundle of the own trust domain, or those of others, as the daemon has them. */
  setBundle(change: Partial<TrustBundle>): void;
  setForeign(bundles: readonly TrustBundle[]): void;
  isRevoked(serial: string): boolean;
  /** Changes the CA, and tells the streams as the daemon does. */
  change(work: (authority: NodeAuthority, authorities: Authorities) => unknown): Promise<void>;
  /** Nothing is signed for this ID from now on; streams are told as the daemon does. */
  revokeId(id: string): void;
  /** From now on the CA signs nothing. */
  revokeIssuer(): void;
  close(): Promise<void>;
}

export interface EndpointOptions {
  readonly clock?: Clock;
  readonly limits?: Limits;
  readonly reports?: ProcessReports;
  readonly lifetimeSeconds?: number;
  /** With the WIT profile. */
  readonly wit?: boolean;
  /** Listen on TCP too. */
  readonly tcp?: { readonly host: string; readonly port: number };
  /** Of the socket, when it is not to be in the folder. */
  readonly path?: string;
}

/** A rule for every process that runs `exe`. */
export function identityRule(id: string, options: { exe?: string; delivery?: string; ttl?: string } = {}): string {
  const { exe = process.execPath, delivery = "workload-api", ttl = "1h" } = options;
  return `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: ${id.replaceAll("/", "-")} }
spec:
  workloadID: ${id}
  selectors: { process:exe: ${exe} }
  svid: { x509: { delivery: ${delivery}, ttl: ${ttl} } }
`;
}

export async function openEndpoint(folder: string, rules: string, options: EndpointOptions = {}): Promise<Endpoint> {
  const { clock = systemClock, limits, reports = NO_REPORTS, lifetimeSeconds = 3600 } = options;
  const stateDir = join(folder, "state");
  // What an earlier endpoint left in the folder is taken up, as a daemon does that starts again.
  if (!existsSync(stateDir)) {
    mkdirSync(stateDir, { mode: 0o700 });
    await initTrustDomain({ stateDir, trustDomain: "example.org", nodeName: "node-1", clock });
  }
  const store = openStore(storePath(stateDir));
  const authority = openAuthority({ stateDir, clock, store });
  const jwt = openJwtAuthority({ stateDir, clock, store, authority });
  const wit = options.wit === true ? openWitAuthority({ stateDir, clock, store, authority }) : undefined;
  const bundle = trustBundle(store, authority, jwt, wit);
  const held = { own: bundle, foreign: [] as readonly TrustBundle[] };
  const { path = join(folder, "workload.sock") } = options;
  const log: string[] = [];
  const changed = new Condition();
  const read = (text: string) =>
    parseResources([{ file: "rules", text }], { trustDomain: TrustDomain.parse("example.org") });
  const book: { resources: ResourceSet | undefined; wanted: ReturnType<typeof wantedLabels> } = {
    resources: read(rules),
    wanted: wantedLabels(read(rules)),
  };
  const api = await openWorkloadApi({
    ...{ path, authority, jwt, store, book, clock, changed, reports, lifetimeSeconds },
    ...(wit === undefined ? {} : { wit }),
    attestor: createAttestor({ nodeName: "node-1" }),
    log: createLog({ level: "debug", clock, write: (line) => void log.push(line) }),
    random: () => 0.5,
    bundle: () => held.own,
    foreignBundles: () => held.foreign,
    ...(options.tcp === undefined ? {} : { tcp: options.tcp }),
    ...(limits === undefined ? {} : { limits: new CallerLimits(limits) }),
  });
  const readRules = (text: string) => {
    const resources = read(text);
    const wanted = wantedLabels(resources);
    return () => {
      book.resources = resources;
      book.wanted = wanted;
      changed.notify();
    };
  };
  return {
    ...{ path, api, bundle, jwt, store, log, readRules },
    setRules: (text) => readRules(text)(),
    dropRules() {
      book.resources = undefined;
      changed.notify();
    },
    setBundle(change) {
      held.own = { ...held.own, ...change };
      void api.refresh();
    },
    setForeign(bundles) {
      held.foreign = bundles;
      void api.refresh();
    },
    isRevoked: (serial) => authority.isRevoked(serial),
    async change(work) {
      await work(authority, openAuthorities({ stateDir, clock, store }));
      held.own = trustBundle(store, authority, jwt, wit);
      await api.refresh();
    },
    revokeId(id) {
      authority.revokeId(SpiffeId.parse(id), "a test");
      void api.refresh();
    },
    revokeIssuer: () => void authority.revoke(authority.info().issuer.serial, "a test"),
    async close() {
      await api.close();
      authority.close();
      store.close();
    },
  };
}

export interface Reply {
  readonly [field: string]: unknown;
}

export interface WorkloadClient {
  unary(method: string, request: object, metadata?: Metadata): Promise<Reply>;
  /** Messages until the stream ends, which a refusal does by throwing. */
  stream(method: string, metadata?: Metadata): ClientReadableStream<Reply>;
  close(): void;
}

export function securityHeader(...values: readonly string[]): Metadata {
  const metadata = new Metadata();
  for (const value of values) metadata.add("workload.spiffe.io", value);
  return metadata;
}

const HEADER = securityHeader("true");

/** Of a socket's path, or of `address:port`. */
export function openClient(path: string): WorkloadClient {
  const definition = loadSync(join(import.meta.dir, "workload.proto"), {
    keepCase: true,
    defaults: true,
    longs: String,
  });
  const { SpiffeWorkloadAPI } = loadPackageDefinition(definition);
  const Service = SpiffeWorkloadAPI as unknown as new (address: string, by: object) => Client & ServiceMethods;
  const client = new Service(path.startsWith("/") ? `unix://${path}` : path, credentials.createInsecure());
  return {
    unary: (method, request, metadata = HEADER) =>
      new Promise((resolve, reject) => {
        (client[method] as UnaryMethod)(request, metadata, (error, reply) => (error ? reject(error) : resolve(reply)));
      }),
    stream: (method, metadata = HEADER) => (client[method] as StreamMethod)({}, metadata),
    close: () => client.close(),
  };
}

type UnaryMethod = (
  request: object,
  metadata: Metadata,
  done: (error: ServiceError | null, reply: Reply) => void,
) => void;
type StreamMethod = (request: object, metadata: Metadata) => ClientReadableStream<Reply>;
type ServiceMethods = Readonly<Record<string, UnaryMethod | StreamMethod>>;

/** The messages of a stream one by one; `failure` when it ends with a status. */
export class Inbox {
  readonly #messages: Reply[] = [];
  readonly #stream: ClientReadableStream<Reply>;
  #failure: ServiceError | undefined;
  #wake: () => void = () => {};

  constructor(stream: ClientReadableStream<Reply>) {
    this.#stream = stream;
    stream.on("data", (message: Reply) => {
      this.#messages.push(message);
      this.#wake();
    });
    stream.on("error", (error: ServiceError) => {
      this.#failure = error;
      this.#wake();
    });
  }

  /** How many messages wait to be read. */
  get waiting(): number {
    return this.#messages.length;
  }

  async next(): Promise<Reply> {
    while (this.#messages.length === 0) {
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#messages.shift() as Reply;
  }

  cancel(): void {
    this.#stream.cancel();
  }
}

/** The gRPC status of what a call throws. */
export async function statusOf(call: Promise<unknown>): Promise<{ code: number; details: string }> {
  try {
    await call;
  } catch (thrown) {
    const { code, details } = thrown as ServiceError;
    return { code, details };
  }
  throw new Error("the call was answered");
}
