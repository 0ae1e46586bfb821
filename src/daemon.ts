// Starts the daemon: builds every room, opens the device and the control socket, and takes them down again in the mirror order.

import { mkdirSync } from "node:fs";
import { uptime } from "node:os";
import {
  adoptRoots,
  type KeyStore,
  type NodeAuthority,
  openAuthority,
  openNodeKeys,
  openNodeStore,
  type ToldRoot,
} from "./ca.ts";
import { type Clock, systemClock } from "./clock.ts";
import { Admission } from "./daemon/admission.ts";
import { createAttestor } from "./daemon/attestation.ts";
import { startAuthorityRoom } from "./daemon/authority_room.ts";
import { openCourier, openPoller } from "./daemon/bundle/open.ts";
import { createBundlePort, stateOfBundles } from "./daemon/bundle/view.ts";
import { BundleBook } from "./daemon/bundle.ts";
import { Condition } from "./daemon/condition.ts";
import type { DaemonConfig } from "./daemon/config.ts";
import { addBundleRoutes } from "./daemon/control/bundle.ts";
import { addFleetRoutes } from "./daemon/control/fleet.ts";
import type { ControlPort } from "./daemon/control/port.ts";
import { openControl } from "./daemon/control.ts";
import { openDeviceFile } from "./daemon/device/file.ts";
import type { DeviceSession, OpenDevice } from "./daemon/device.ts";
import { type Endpoints, startEndpoints } from "./daemon/endpoint.ts";
import { fleetMetricSource } from "./daemon/fleet/metric.ts";
import { type FleetRoom, openFleet } from "./daemon/fleet/open.ts";
import { announceRevocation, createFleetPort, standingRevocation } from "./daemon/fleet/port.ts";
import { requireSayable } from "./daemon/fleet/root_voice.ts";
import { fleetHooks } from "./daemon/fleet/tie.ts";
import { FlowStore } from "./daemon/flow.ts";
import { Issuance } from "./daemon/issuance.ts";
import { KernelLink } from "./daemon/link.ts";
import { createLog, type Log } from "./daemon/log.ts";
import { ModuleCounters } from "./daemon/module_counter.ts";
import { NameKeeper, type ResolveName } from "./daemon/name.ts";
import { createNotifier } from "./daemon/notify.ts";
import { PeerBook } from "./daemon/peer.ts";
import { EnforcementPlane } from "./daemon/plane.ts";
import { openPublication, type Publication } from "./daemon/publication.ts";
import { Reconciler } from "./daemon/reconcile.ts";
import { firstSubjectAt, Registry } from "./daemon/registry.ts";
import { watchRevocations } from "./daemon/revocation_watch.ts";
import { RuleKeeper } from "./daemon/rule/keeper.ts";
import { watchDirectory } from "./daemon/rule/watch.ts";
import { RuleBook } from "./daemon/rule_book.ts";
import { openDaemonState } from "./daemon/state.ts";
import { TrustKeeper } from "./daemon/trust.ts";
import { createControlPort } from "./daemon/view.ts";
import { startWorkloadApi, type WorkloadApi } from "./daemon/workload_api.ts";
import { describeError, RiprapError } from "./error.ts";
import { TrustDomain } from "./spiffe_id.ts";
import type { Store } from "./store.ts";

/** A running daemon. */
export interface Daemon extends ControlPort {
  /** Lets go of the device, the socket and the state; what the kernel enforces stays in force. */
  stop(): Promise<void>;
}

/** What tests put in the place of the machine. */
export interface DaemonSeams {
  readonly clock?: Clock;
  readonly openDevice?: OpenDevice;
  readonly resolve?: ResolveName;
  readonly random?: () => number;
  readonly writeLog?: (line: string) => void;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Watch the rules directory; true unless given. */
  readonly watch?: boolean;
}

/** How long the first rules wait for the module to say HELLO: it does within milliseconds of the opening. */
const HELLO_PATIENCE_MS = 3000;
/** Ended SVIDs are forgotten this often. */
const PRUNE_EVERY_MS = 600_000;

/** RiprapError of the room that cannot start: `ca_not_initialised`, `state_not_private`, `EBUSY`, `kernel_required`, `control_socket`, … */
export async function startDaemon(config: DaemonConfig, seams: DaemonSeams = {}): Promise<Daemon> {
  const clock = seams.clock ?? systemClock;
  const log = createLog({
    level: config.logLevel,
    clock,
    write: seams.writeLog ?? ((line) => void process.stderr.write(line)),
  });
  const store = openNodeStore(config.stateDir);
  const undo: (() => void | Promise<void>)[] = [() => store.close()];
  try {
    const keys = openNodeKeys(config.stateDir);
    const authority = openAuthority({ stateDir: config.stateDir, clock, store, keys });
    undo.push(() => authority.close());
    // One opening of a slow TPM for all keys that a start needs; and what would keep them closed is said before anything runs.
    const release = keys.hold();
    undo.push(release);
    const random = seams.random ?? Math.random;
    const tied: { rooms: Rooms | undefined } = { rooms: undefined };
    const { stateDir } = config;
    const adopt = (told: readonly ToldRoot[]) => adoptRoots(told, { stateDir, store, keys, now: clock.now() });
    const hooks = fleetHooks({ config, authority, store, clock, log, adoptRoots: adopt, rooms: () => tied.rooms });
    const fleet = await openFleet({ config, authority, keys, store, clock, log, random }, hooks);
    const rooms = buildRooms({ config, seams, clock, log, store, authority, keys, fleet });
    tied.rooms = rooms;
    mkdirSync(config.rulesDir, { recursive: true, mode: 0o755 });
    undo.push(() => rooms.poller.close());
    const session = openDevice(rooms.kernel, config, log);
    const loops = startLoops(rooms, { config, seams, clock, log, store, session });
    undo.push(() => loops.stop());
    if (session === undefined) rooms.trust.standAlone();
    else await helloOf(rooms, clock);
    await rooms.rules.start();
    await fleet.fleet.applyResources();
    const publication = openPublication({
      config,
      clock,
      store,
      authority,
      keys,
      fleetKeys: () => fleet.fleet.jwtKeys(),
    });
    rooms.late.publication = publication;
    const workloadApi = await startWorkloadApi({ config, clock, log, store, authority, publication, random }, rooms);
    undo.push(() => workloadApi?.close());
    rooms.late.workloadApi = workloadApi;
    undo.push(rooms.bundles.onChange(() => tellStreams(workloadApi, log)));
    const authorities = startAuthorityRoom(
      { config, clock, log, store, authority, keys, publication },
      {
        ...rooms,
        refreshStreams: async () => workloadApi?.refresh(),
        announce: (target, about) => announceRevocation(fleet, rooms.fleetPort, { target, ...about }),
        standing: (target) => standingRevocation(fleet, target),
        refreshRoster: () => fleet.fleet.refreshOwn(),
        beforeRootMoves: (ending, options) => requireSayable(fleet.fleet.state, options, ending),
      },
    );
    undo.push(() => authorities.stop());
    rooms.late.authorities = authorities.keeper;
    rooms.late.renewer = fleet.renewer;
    const health = { isReady: () => rooms.port.status().ready, metrics: () => rooms.port.metrics() };
    const trust = { bundle: () => publication.bundle(), crl: () => authority.crl() };
    const endpoints = await startEndpoints({ config, authority, trust, health, clock, log, random });
    rooms.late.endpoints = endpoints;
    undo.push(() => endpoints.close());
    const bundles = createBundlePort({ ...rooms, book: rooms.bundles, endpoints, own: trust.bundle });
    const control = await openControl(rooms.port, {
      path: config.controlSocket,
      onBug: (thrown) => log.error("the control API failed", { error: describeError(thrown) }),
      routes: [
        (app) => addBundleRoutes(app, bundles),
        (app) => addFleetRoutes(app, rooms.fleetPort),
        authorities.addRoutes,
      ],
    });
    undo.push(() => control.close());
    release();
    const { plane, planeReason, node, trustDomain } = rooms.port.status();
    log.info("the daemon is running", { plane, reason: planeReason, node, trustDomain });
    rooms.notifier.ready(plane === "kernel" ? "enforcing" : `NOT ENFORCING: ${planeReason}`);
    undo.push(() => rooms.notifier.stopping());
    return { ...rooms.port, stop: () => takeDown(undo, log) };
  } catch (thrown) {
    await takeDown(undo, log);
    throw thrown;
  }
}

interface Ground {
  readonly config: DaemonConfig;
  readonly seams: DaemonSeams;
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Store;
  readonly authority: NodeAuthority;
  readonly keys: KeyStore;
  readonly fleet: FleetRoom;
}

function buildRooms({ config, seams, clock, log, store, authority, keys, fleet: room }: Ground) {
  const { fleet } = room;
  const state = openDaemonState(store);
  const registry = new Registry(firstSubjectAt(clock.now()));
  const attestor = createAttestor({ nodeName: authority.nodeName, nodeGroups: () => fleet.groups() });
  const flows = new FlowStore();
  const counters = new ModuleCounters(clock);
  const bundles = new BundleBook({ store, clock, log });
  const bundleOf = (trustDomain: TrustDomain) => bundles.bundleOf(trustDomain);
  const judgePath: typeof fleet.judgePath = (path) => fleet.judgePath(path);
  const peers = new PeerBook({ authority, bundleOf, judgePath, store, clock, log });
  const changed = new Condition();
  const lifetimeSeconds = Math.floor(config.svidLifetime / 1000);
  const names: NameKeeper = new NameKeeper({
    clock,
    log,
    ...(seams.resolve === undefined ? {} : { resolve: seams.resolve }),
    // Not a change of the rules: flows to an address that a name has left go on.
    onChange: () => void book.commit().catch(() => undefined),
  });
  // Names by their resolver, workloads by what their nodes say.
  const addresses = () => new Map([...names.addresses(), ...fleet.addresses()]);
  const book: RuleBook = new RuleBook({
    ...{ registry, state, clock, log, addresses },
    revokedExecutables: () => fleet.revokedExecutables(),
  });
  const issuance = new Issuance({
    authority,
    state,
    store,
    clock,
    log,
    random: seams.random ?? Math.random,
    onRevoked: (serial) => peers.forget(serial),
  });
  const admission = new Admission({ registry, attestor, book, issuance, log, lifetimeSeconds });
  const reconciler = new Reconciler({ registry, book, admission, issuance, state, log, lifetimeSeconds });
  const trust = new TrustKeeper({ authority, bundles, state, log });
  const plane: EnforcementPlane = new EnforcementPlane({
    ...{ registry, book, trust, admission, issuance },
    ...{ reconciler, flows, counters, peers, changed, log },
    reloadRules: () => rules.reload(),
  });
  const openDevice = seams.openDevice ?? openDeviceFile;
  const kernel = new KernelLink({ config, openDevice, clock, log, handler: plane, keys });
  const trustDomain = TrustDomain.parse(authority.trustDomain);
  bundles.onChange(() => plane.trustChanged());
  const random = seams.random ?? Math.random;
  const poller = openPoller({ config, clock, log, authority, bundles, random });
  const published = () => late.publication?.bundle();
  const courier = openCourier({ bundles, authority, clock, log, random, store, published, fleet });
  const onSwap = () => {
    const trustDomains = book.resources?.trustDomains ?? [];
    bundles.configure(trustDomains);
    poller.configure(trustDomains);
    courier.configure(trustDomains);
    plane.rulesChanged();
  };
  const { rulesDir } = config;
  const fleetTexts = () => fleet.texts();
  const rules: RuleKeeper = new RuleKeeper({ rulesDir, trustDomain, book, names, state, log, fleetTexts, onSwap });
  const byPid = (pid: number) => [...registry.workloads()].find(({ evidence }) => evidence.pid === pid)?.evidence;
  const startedAt = clock.now();
  // Opened when all of this is there.
  const late: Late = {};
  const port = createControlPort({
    ...{ config, clock, authority, registry, book, rules, trust, names },
    ...{ issuance, flows, counters, peers, changed, kernel },
    get authorityNotAfter() {
      return authority.notAfter;
    },
    startedAt,
    bootedAt: Date.now() - uptime() * 1000,
    questions: {
      ...{ attestor, known: byPid, resources: () => book.resources, addresses },
      isHeld: (foreign) => bundles.bundleOf(foreign) !== undefined,
    },
    link: () => plane.link,
    workload: () => late.workloadApi,
    fleetMetrics: () => fleetMetricSource(fleet, { courier, startedAt, now: clock.now() }),
    bundleState: () => stateOfBundles(bundles, poller),
    endpoints: () => late.endpoints,
  });
  const fleetPort = createFleetPort(room, {
    clock,
    nodeName: authority.nodeName,
    check: (source) => rules.check(source),
  });
  const notifier = createNotifier({ environment: seams.environment ?? process.env, clock, log });
  return {
    state,
    late,
    attestor,
    registry,
    book,
    bundles,
    poller,
    courier,
    names,
    trust,
    issuance,
    flows,
    counters,
    changed,
    plane,
    kernel,
    rules,
    port,
    fleet,
    fleetPort,
    notifier,
  };
}

interface Late {
  workloadApi?: WorkloadApi | undefined;
  endpoints?: Endpoints;
  publication?: Publication;
  authorities?: { look(): Promise<void> };
  renewer?: FleetRoom["renewer"];
}

type Rooms = ReturnType<typeof buildRooms>;

/** By another program: revocations, roots, keys. */
function stateChanged({ plane, changed, late }: Rooms, log: Log): void {
  plane.trustChanged();
  changed.notify();
  tellStreams(late.workloadApi, log);
}

function tellStreams(workloadApi: WorkloadApi | undefined, log: Log): void {
  workloadApi?.refresh().catch((thrown: unknown) => {
    log.error("streams were not told of a changed bundle", { error: describeError(thrown) });
  });
}

/** Undefined: the identity plane, which the log says in so many words. */
function openDevice(kernel: KernelLink, config: DaemonConfig, log: Log): DeviceSession | undefined {
  try {
    return kernel.open();
  } catch (thrown) {
    if (!(thrown instanceof RiprapError) || thrown.code === "EBUSY") throw thrown;
    if (config.requireKernel) {
      throw new RiprapError("kernel_required", `Cannot start with requireKernel: ${thrown.message}`, { cause: thrown });
    }
    log.error("NOTHING IS ENFORCED: the identity plane runs alone", { reason: thrown.message });
    return undefined;
  }
}

interface LoopInput {
  readonly store: Store;
  readonly config: DaemonConfig;
  readonly seams: DaemonSeams;
  readonly clock: Clock;
  readonly log: Log;
  readonly session: DeviceSession | undefined;
}

function startLoops(rooms: Rooms, { config, seams, clock, log, store, session }: LoopInput): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const { signal } = stopping;
  const watching = { clock, log, onChange: () => void rooms.rules.reload() };
  const loops = [
    rooms.kernel.run(session, signal),
    rooms.issuance.deadlines.run((instance) => rooms.plane.renewalDue(instance), signal),
    rooms.names.run(signal),
    rooms.counters.run(() => rooms.plane.link, signal),
    rooms.notifier.runWatchdog(signal),
    prune(rooms, clock, signal),
    rooms.fleet.run(signal),
    rooms.courier.run(signal),
    watchRevocations({ store, clock, onChange: () => stateChanged(rooms, log) }, signal),
    ...(seams.watch === false ? [] : [watchDirectory(config.rulesDir, watching, signal)]),
  ];
  for (const loop of loops) {
    loop.catch((thrown: unknown) => log.error("a loop of the daemon ended", { error: describeError(thrown) }));
  }
  return {
    async stop() {
      stopping.abort();
      rooms.flows.close();
      await Promise.allSettled(loops);
    },
  };
}

async function prune(rooms: Rooms, clock: Clock, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    rooms.state.prune(clock.now());
    await clock.sleep(PRUNE_EVERY_MS, signal).catch(() => undefined);
  }
}

/** Numbers that the module replays must be known before rules are compiled. */
async function helloOf(rooms: Rooms, clock: Clock): Promise<void> {
  const enough = new AbortController();
  const patience = clock.sleep(HELLO_PATIENCE_MS, enough.signal).catch(() => undefined);
  const answered = rooms.changed
    .until(() => rooms.kernel.state.phase !== "starting", enough.signal)
    .catch(() => undefined);
  await Promise.race([answered, patience]);
  enough.abort();
}

async function takeDown(undo: (() => void | Promise<void>)[], log: Log): Promise<void> {
  for (const step of undo.splice(0).reverse()) {
    try {
      await step();
    } catch (thrown) {
      log.error("a step of stopping failed", { error: describeError(thrown) });
    }
  }
}
