// Everything that is counted, as Prometheus reads it. Pure.

import type { BodyOf } from "../abi.ts";
import type { BundleState } from "./bundle/view.ts";
import type { StatusView } from "./control/port.ts";
import { type FleetMetricSource, fleetSamples } from "./fleet/metric.ts";
import type { IssuanceCounters } from "./issuance.ts";
import type { PeerBook } from "./peer.ts";
import { formatSample, type Sample } from "./sample.ts";
import type { WorkloadApi } from "./workload_api.ts";

export interface MetricSource {
  readonly status: StatusView;
  readonly module: BodyOf<"queryDone"> | undefined;
  readonly issuance: IssuanceCounters;
  readonly peers: Pick<PeerBook, "accepted" | "refused">;
  readonly fleet: FleetMetricSource;
  readonly bundles: Pick<BundleState, "held" | "failing">;
  readonly flowEventsLost: number;
  readonly residentBytes: number;
  /** Undefined: it is not served. */
  readonly workload: Omit<WorkloadApi, "close" | "refresh" | "path" | "port"> | undefined;
}

export function formatMetrics(source: MetricSource): string {
  const { workload, fleet, module } = source;
  return [...daemonSamples(source), ...workloadSamples(workload), ...fleetSamples(fleet), ...moduleSamples(module)]
    .map(formatSample)
    .join("");
}

function daemonSamples(source: MetricSource): readonly Sample[] {
  const { status, issuance, peers, bundles, flowEventsLost, residentBytes } = source;
  const notAfter = Math.floor(Date.parse(status.authority.notAfter) / 1000);
  return [
    [
      "up_kernel",
      "gauge",
      "1 when the kernel module enforces, 0 in the identity plane.",
      status.plane === "kernel" ? 1 : 0,
    ],
    ["ready", "gauge", "1 when every rule is in force and the CA is usable.", status.ready ? 1 : 0],
    ["rules_generation_desired", "gauge", "Generation of rules that was asked for.", status.rules.desired],
    ["rules_generation_applied", "gauge", "Generation of rules in force.", status.rules.applied],
    ["trust_generation_desired", "gauge", "Generation of trust that was asked for.", status.trust.desired],
    ["trust_generation_applied", "gauge", "Generation of trust in force.", status.trust.applied],
    ["authority_not_after_seconds", "gauge", "End of this node's intermediate, Unix time.", notAfter],
    ["processes_identified", "gauge", "Processes with a valid SVID.", status.processes.identified],
    ["svids_issued_total", "counter", "First SVIDs signed for a process.", issuance.issued],
    ["svids_renewed_total", "counter", "SVIDs signed in place of an earlier one.", issuance.renewed],
    ["svids_failed_total", "counter", "SVIDs that could not be signed or installed.", issuance.failed],
    ["svids_revoked_total", "counter", "SVIDs journaled as revoked.", issuance.revoked],
    ["peers_accepted_total", "counter", "Peer chains accepted.", peers.accepted],
    ["peers_refused_total", "counter", "Peer chains refused.", peers.refused],
    ["foreign_bundles_held", "gauge", "Trust bundles held of other trust domains.", bundles.held],
    ["foreign_bundles_failing", "gauge", "Trust domains whose endpoint gave no good bundle lately.", bundles.failing],
    ["flow_events_lost_total", "counter", "Flow events lost on the way to those who follow.", flowEventsLost],
    ["daemon_resident_bytes", "gauge", "Resident memory of the daemon.", residentBytes],
  ];
}

function workloadSamples(workload: MetricSource["workload"]): readonly Sample[] {
  if (workload === undefined) return [];
  const { counters, streams, holders, svids, rejectedSecrets } = workload;
  return [
    ["workload_api_streams", "gauge", "Open streams of the Workload API and of Envoy's secrets.", streams],
    ["workload_api_holders", "gauge", "Processes that hold an SVID of the Workload API.", holders],
    ["workload_api_calls_total", "counter", "Calls of the Workload API.", counters.calls],
    ["workload_api_refused_total", "counter", "Calls that were refused.", counters.refused],
    ["workload_api_limited_total", "counter", "Calls refused because their caller asks too much.", counters.limited],
    ["workload_api_svids_issued_total", "counter", "X509-SVIDs handed out with their keys.", svids.issued],
    ["workload_api_svids_revoked_total", "counter", "Of those, revoked before their end.", svids.revoked],
    ["workload_api_secrets_rejected_total", "counter", "Answers that an Envoy did not take.", rejectedSecrets],
  ];
}

function moduleSamples(module: BodyOf<"queryDone"> | undefined): readonly Sample[] {
  if (module === undefined) return [];
  return [
    ["module_processes", "gauge", "Process records in the module.", module.processesLive],
    ["module_processes_total", "counter", "Process records made since load.", module.processesSeen],
    ["flows", "gauge", "Live managed flows.", module.flowsLive],
    ["flows_total", "counter", "Managed flows since load.", module.flowsSeen],
    ["flows_denied_total", "counter", "Flows refused.", module.denied],
    ["flows_plain_total", "counter", "Flows let through plain.", module.allowedPlain],
    ["flows_fail_open_total", "counter", "Flows let through plain that enforce would have refused.", module.failOpen],
    ["handshakes_full_total", "counter", "Full TLS handshakes.", module.handshakesFull],
    ["handshakes_resumed_total", "counter", "Resumed TLS handshakes.", module.handshakesResumed],
    ["handshakes_failed_total", "counter", "TLS handshakes that failed.", module.handshakesFailed],
    ["peer_cache_hits_total", "counter", "Peer chains answered from the module's cache.", module.verifyHits],
    ["peer_cache_misses_total", "counter", "Peer chains asked of the daemon.", module.verifyMisses],
    ["sockets", "gauge", "Managed sockets.", module.socketsManaged],
    ["module_flow_events_lost_total", "counter", "Flow events that the module's queue dropped.", module.lostFlowEvents],
    ["module_memory_bytes", "gauge", "Memory of the module by its own count.", module.memoryBytes],
  ];
}
