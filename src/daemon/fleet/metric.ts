// What is counted of the fleet: how far behind this node may be, what never came, and what was refused and why.

import { BUNDLE_REFUSALS } from "../../federation/bundle_message.ts";
import type { Courier } from "../bundle/courier.ts";
import type { Fleet } from "../fleet.ts";
import type { Sample } from "../sample.ts";

interface Ages {
  readonly now: number;
  /** They count from here while nothing was heard. */
  readonly startedAt: number;
}

/** What the samples are read out of. */
export function fleetMetricSource(fleet: Fleet, { courier, now, startedAt }: Ages & { readonly courier: Courier }) {
  const { self, transport, state, gate, wire, antiEntropy, counters, conflicts } = fleet;
  return {
    ...{ now, startedAt, conflicts },
    isMember: self !== undefined,
    isConnected: transport?.state.phase === "connected",
    nodes: fleet.nodes(),
    digest: state.generation().digest,
    statements: state.size,
    envelopes: gate.counts(),
    wire: wire?.counters,
    comparison: antiEntropy,
    judged: counters,
    bundles: courier,
  };
}

export type FleetMetricSource = ReturnType<typeof fleetMetricSource>;

export function fleetSamples(source: FleetMetricSource): readonly Sample[] {
  const { isMember, isConnected, nodes, digest, statements, conflicts } = source;
  const active = nodes.filter(({ state }) => state === "active");
  const behind = active.filter(({ presence }) => presence?.applied?.digest !== digest).length;
  return [
    [
      "fleet_member",
      "gauge",
      "1 when the roster has this node under its key, 0 when it is alone or displaced.",
      isMember ? 1 : 0,
    ],
    ["fleet_connected", "gauge", "1 when this node is connected to a broker of the fleet.", isConnected ? 1 : 0],
    ["fleet_nodes", "gauge", "Nodes of the roster.", nodes.length],
    ["fleet_nodes_behind", "gauge", "Active nodes that are not known to have applied this generation.", behind],
    ["fleet_statements", "gauge", "Statements that stand.", statements],
    ["fleet_conflicts_total", "counter", "Two words of one revision, of which one stands.", conflicts],
    ...lagSamples(source),
    ...messageSamples(source),
    ...statementSamples(source),
    ...bundleSamples(source),
  ];
}

function lagSamples({ now, startedAt, wire, comparison }: FleetMetricSource): readonly Sample[] {
  const age = (at: number) => Math.max(0, now - Math.max(at, startedAt)) / 1000;
  const lag = (wire?.lagMs ?? 0) / 1000;
  return [
    ["fleet_lag_seconds", "gauge", "Age of the last broadcast when it was taken, by its author's clock.", lag],
    [
      "fleet_heard_age_seconds",
      "gauge",
      "Since a broadcast of another node was taken; since the start when none was.",
      age(wire?.heardAt ?? 0),
    ],
    [
      "fleet_agreement_age_seconds",
      "gauge",
      "Since this node and another were found to know the same; since the start when none was.",
      age(comparison.agreedAt),
    ],
  ];
}

function messageSamples({ envelopes, wire }: FleetMetricSource): readonly Sample[] {
  const { accepted, missed, refused } = envelopes;
  const { sent = 0, unsent = 0, answered = 0, busy = 0, told = 0 } = wire ?? {};
  return [
    ["fleet_messages_sent_total", "counter", "Broadcasts of this node.", sent],
    ["fleet_messages_unsent_total", "counter", "Broadcasts that did not leave: no broker took them.", unsent],
    ["fleet_messages_accepted_total", "counter", "Messages of other nodes that were taken.", accepted],
    ["fleet_messages_missed_total", "counter", "Messages that never came, by the gaps in their sequences.", missed],
    [
      "fleet_messages_refused_total",
      "counter",
      "Messages that were refused, by the reason.",
      new Map(Object.entries(refused)),
    ],
    ["fleet_questions_answered_total", "counter", "Questions of other nodes that were answered.", answered],
    ["fleet_questions_busy_total", "counter", "Questions put off because too many came at once.", busy],
    ["fleet_notices_sent_total", "counter", "Nodes told that they fell back or that their clock is wrong.", told],
  ];
}

function statementSamples({ judged, comparison }: FleetMetricSource): readonly Sample[] {
  const { rounds, failed } = comparison.counters;
  return [
    ["fleet_statements_taken_total", "counter", "Statements that were new and good.", judged.taken],
    ["fleet_statements_stale_total", "counter", "Statements of which a later word stands.", judged.stale],
    ["fleet_statements_refused_total", "counter", "Statements that were refused.", judged.refused],
    ["fleet_comparisons_total", "counter", "Comparisons with another node that ended.", rounds],
    ["fleet_comparisons_failed_total", "counter", "Nodes that did not compare when asked.", failed],
  ];
}

function bundleSamples({ bundles: { counters, refused } }: FleetMetricSource): readonly Sample[] {
  const { said, taken, unchanged } = counters;
  const refusals = new Map(BUNDLE_REFUSALS.map((code) => [code, refused.get(code) ?? 0] as const));
  return [
    ["fleet_bundles_said_total", "counter", "Times this node said the trust domain's bundle.", said],
    ["fleet_bundles_taken_total", "counter", "Bundles of other trust domains that were new.", taken],
    ["fleet_bundles_unchanged_total", "counter", "Bundles of other trust domains that were held already.", unchanged],
    ["fleet_bundles_refused_total", "counter", "Bundles that were refused, by the reason.", refusals],
  ];
}
