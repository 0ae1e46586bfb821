// What the control API shows and does, made of the daemon's rooms. Decides nothing.

import type { NodeAuthority } from "../ca.ts";
import type { Clock } from "../clock.ts";
import { RiprapError } from "../error.ts";
import { listResources } from "../resource.ts";
import { VERSION } from "../version.ts";
import type { BundleState } from "./bundle/view.ts";
import type { Condition } from "./condition.ts";
import type { DaemonConfig } from "./config.ts";
import type { ControlPort, ProcessView, ResourceView, StatusView } from "./control/port.ts";
import type { Endpoints } from "./endpoint.ts";
import type { FleetMetricSource } from "./fleet/metric.ts";
import type { FlowStore } from "./flow.ts";
import type { Issuance } from "./issuance.ts";
import type { KernelLink, ModuleLink } from "./link.ts";
import { formatMetrics } from "./metric.ts";
import type { ModuleCounters } from "./module_counter.ts";
import type { NameKeeper } from "./name.ts";
import type { PeerBook } from "./peer.ts";
import { attestPid, explainConnection, generateForPid, type QuestionParts } from "./question.ts";
import type { Registry, Workload } from "./registry.ts";
import type { RuleKeeper } from "./rule/keeper.ts";
import type { RuleBook } from "./rule_book.ts";
import type { TrustKeeper } from "./trust.ts";
import type { WorkloadApi } from "./workload_api.ts";

export interface ViewParts {
  readonly config: DaemonConfig;
  readonly clock: Clock;
  readonly startedAt: number;
  /** Milliseconds since the epoch at which this machine was booted. */
  readonly bootedAt: number;
  readonly authority: NodeAuthority;
  /** Milliseconds since the epoch; later, when the intermediate was renewed. */
  readonly authorityNotAfter: number;
  readonly registry: Registry;
  readonly book: RuleBook;
  readonly rules: RuleKeeper;
  readonly trust: TrustKeeper;
  readonly names: NameKeeper;
  readonly issuance: Issuance;
  readonly flows: FlowStore;
  readonly counters: ModuleCounters;
  readonly peers: PeerBook;
  readonly changed: Condition;
  readonly questions: QuestionParts;
  readonly kernel: KernelLink;
  fleetMetrics(): FleetMetricSource;
  /** Of other trust domains. */
  bundleState(): BundleState;
  /** Undefined before they are opened. */
  endpoints(): Pick<Endpoints, "view"> | undefined;
  link(): ModuleLink | undefined;
  /** Undefined: it is not open yet, or not wanted. */
  workload(): WorkloadApi | undefined;
}

export function createControlPort(parts: ViewParts): ControlPort {
  const status = () => statusView(parts);
  return {
    status,
    processes: ({ all }) =>
      [...parts.registry.workloads()]
        .filter(({ state }) => all || state.phase === "ready" || state.phase === "assigned")
        .map((workload) => processView(workload, parts.bootedAt)),
    flows: (options) => parts.flows.list(options),
    followFlows(signal) {
      const events = parts.flows.follow(signal);
      if (events !== undefined) return events;
      throw new RiprapError("unavailable", "Cannot follow flows: too many others do already; end one of them");
    },
    resources: (kind) => resourceViews(parts.book, kind),
    apply: (source) => parts.rules.apply(source),
    remove: (kind, name) => parts.rules.remove(kind, name),
    attest: (pid) => attestPid(pid, parts.questions),
    generate: (pid, workloadId) => generateForPid(pid, workloadId, parts.questions),
    explain: (request) => explainConnection(request, parts.questions),
    waitReady: (signal) => parts.changed.until(() => isReady(parts), signal),
    async drain(on) {
      const link = parts.link();
      if (link === undefined)
        throw new RiprapError("unavailable", "Cannot drain: there is no kernel module; see `riprap status`");
      return await link.drain(on);
    },
    metrics: () =>
      formatMetrics({
        status: status(),
        module: parts.counters.last,
        issuance: parts.issuance.counters,
        peers: parts.peers,
        fleet: parts.fleetMetrics(),
        bundles: parts.bundleState(),
        flowEventsLost: parts.flows.lost,
        residentBytes: process.memoryUsage.rss(),
        workload: parts.workload(),
      }),
  };
}

/** Rules in force and acknowledged, and a CA that can sign; in the identity plane the daemon's own acknowledgement counts. */
function isReady({ book, trust, authorityNotAfter, clock, config, link }: ViewParts): boolean {
  const rules = book.view;
  const isApplied = book.resources !== undefined && rules.error === undefined && rules.applied === rules.desired;
  const isTrusting = link() === undefined || trust.view.applied === trust.view.desired;
  const isEnforcing = link() !== undefined || !config.requireKernel;
  return isApplied && isTrusting && isEnforcing && authorityNotAfter > clock.now();
}

function statusView(parts: ViewParts): StatusView {
  const { authority, book, counters, flows, kernel, registry, trust } = parts;
  // Once: it counts the journal's rows.
  const info = authority.info();
  const { issuer, keyStorage, trustDomain, nodeName } = info;
  const link = parts.link();
  const counts = counters.last;
  const identified = [...registry.workloads()].filter(({ state }) => state.phase === "ready").length;
  return {
    version: VERSION,
    plane: link === undefined ? "identity" : "kernel",
    ...(link === undefined ? { planeReason: planeReason(kernel) } : {}),
    trustDomain,
    node: nodeName,
    startedAt: new Date(parts.startedAt).toISOString(),
    ready: isReady(parts),
    rules: book.view,
    trust: trust.view,
    authority: { subject: `intermediate ${issuer.serial}`, notAfter: issuer.notAfter.toISOString(), keyStorage },
    processes: { live: registry.size, identified },
    flows: {
      live: counts === undefined ? flows.liveCount : Number(counts.flowsLive),
      denied: Number(counts?.denied ?? 0n),
      failOpen: Number(counts?.failOpen ?? 0n),
    },
    ...(link === undefined
      ? {}
      : {
          module: {
            version: link.hello.moduleVersion,
            draining: link.isDraining,
            memoryBytes: Number(counts?.memoryBytes ?? 0n),
          },
        }),
    warnings: [...warningsOf(parts, link), ...info.warnings],
  };
}

function planeReason(kernel: KernelLink): string {
  const { state } = kernel;
  if (state.phase !== "closed") return "Nothing is enforced yet: the kernel module has not answered.";
  return `Nothing is enforced: ${state.reason}`;
}

function warningsOf(parts: ViewParts, link: ModuleLink | undefined): readonly string[] {
  const { book, config, kernel, names } = parts;
  const plane = link === undefined ? [planeReason(kernel)] : [];
  const rules = book.view.error === undefined ? [] : [`The rules as written are not in force: ${book.view.error}`];
  const unknown =
    config.unknownMode === "enforce" || link === undefined
      ? []
      : [
          `A process that cannot be attested goes ${config.unknownMode === "observe" ? "plain" : "plain where no rule refuses it"} (unknownMode: ${config.unknownMode}).`,
        ];
  const endpoints = (parts.endpoints()?.view() ?? []).flatMap(({ name, reason }) =>
    reason === undefined ? [] : [`The ${name} is degraded: ${reason}`],
  );
  const bundles = parts.bundleState().warnings;
  return [...plane, ...rules, ...names.warnings, ...book.warnings, ...unknown, ...bundles, ...endpoints];
}

function processView({ instance, evidence, state }: Workload, bootedAt: number): ProcessView {
  const { pid, parentPid, name, exe, startTimeNs } = evidence;
  return {
    instance: instance.toString(),
    pid,
    parentPid,
    startedAt: new Date(bootedAt + Number(startTimeNs / 1_000_000n)).toISOString(),
    name,
    exe,
    ...("assignment" in state ? { spiffeId: state.assignment.spiffeId.toString(), rule: state.assignment.rule } : {}),
    state: state.phase === "assigned" ? "pending" : state.phase,
    ...(state.phase === "ready"
      ? {
          svid: {
            serial: state.svid.serial,
            notBefore: new Date(state.svid.notBefore).toISOString(),
            notAfter: new Date(state.svid.notAfter).toISOString(),
            renewals: state.svid.renewals,
          },
        }
      : {}),
  };
}

function resourceViews(book: RuleBook, kind: string | undefined): readonly ResourceView[] {
  const { resources } = book;
  if (resources === undefined) return [];
  return listResources(resources)
    .filter((resource) => kind === undefined || resource.kind.toLowerCase() === kind.toLowerCase())
    .map(({ kind: its, name, source, document }) => ({
      kind: its,
      name,
      source: `${source.file}:${source.line}`,
      document,
    }));
}
