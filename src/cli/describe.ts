// Puts the views of the control API into lines for a person, within 100 columns. JSON never comes from here.

import type { AttestView, ExplainView, FlowView, Generation, ProcessView, StatusView } from "../daemon/control/port.ts";
import { formatDuration } from "./duration.ts";
import { formatBytes, indent, layOut } from "./grid.ts";
import { describeReason } from "./reason.ts";

export function describeStatus(view: StatusView, now: number): string[] {
  const row = (name: string, text: string) => {
    const [first = "", ...rest] = indent(text, 13);
    return [name.padEnd(13) + first.trimStart(), ...rest];
  };
  const { flows, processes, authority, module } = view;
  return [
    ...(view.plane === "kernel"
      ? row("plane", "kernel: enforced by the module")
      : row("plane", "IDENTITY ONLY: nothing is enforced")),
    ...(view.planeReason === undefined ? [] : row("", view.planeReason)),
    ...row("ready", view.ready ? "yes" : "no"),
    ...row("node", `${view.node} of ${view.trustDomain}`),
    ...row("rules", describeGeneration(view.rules)),
    ...row("trust", describeGeneration(view.trust)),
    ...row(
      "authority",
      `${authority.subject}, ends ${authority.notAfter} (${formatDuration(Date.parse(authority.notAfter) - now)}), key: ${authority.keyStorage}`,
    ),
    ...row("processes", `${processes.live} live, ${processes.identified} with an identity`),
    ...row("flows", `${flows.live} live, ${flows.denied} denied, ${flows.failOpen} let through unprotected`),
    ...(module === undefined
      ? []
      : row(
          "module",
          `${module.version}, ${formatBytes(module.memoryBytes)}${module.draining ? ", DRAINING: new sockets are not managed" : ""}`,
        )),
    ...row("daemon", `riprap ${view.version}, up ${formatDuration(now - Date.parse(view.startedAt))}`),
    ...view.warnings.filter((warning) => warning !== view.planeReason).flatMap((warning) => row("warning", warning)),
  ];
}

function describeGeneration({ desired, applied, error }: Generation): string {
  const text =
    desired === applied ? `generation ${applied}, applied` : `generation ${desired} desired, ${applied} applied`;
  return error === undefined ? text : `${text}: ${error}`;
}

export function describeProcesses(views: readonly ProcessView[], options: { now: number; all: boolean }): string[] {
  if (views.length === 0) {
    return [
      options.all
        ? "No process is known."
        : 'No process has an identity. "riprap ps --all" lists the others; "riprap attest PID" says why.',
    ];
  }
  const columns = [
    { title: "PID", align: "right" as const },
    { title: "NAME" },
    { title: "STATE" },
    { title: "SVID" },
    { title: "SPIFFE ID" },
    { title: "RULE" },
  ];
  const rows = views.map((view) => [
    String(view.pid),
    view.name,
    view.state,
    describeSvid(view, options.now),
    view.spiffeId ?? "-",
    view.rule ?? "-",
  ]);
  return layOut(columns, rows);
}

function describeSvid({ svid }: ProcessView, now: number): string {
  if (svid === undefined) return "-";
  const left = Date.parse(svid.notAfter) - now;
  return `${left > 0 ? formatDuration(left) : "ended"}${svid.renewals === 0 ? "" : `, renewed ${svid.renewals}×`}`;
}

export function describeFlows(views: readonly FlowView[]): string[] {
  return views.length === 0
    ? ["No flow yet: no managed process has connected or accepted."]
    : views.flatMap(describeFlow);
}

/**
 * A flow takes two or three lines, because two SPIFFE IDs and a rule fit no row:
 *
 *     open    curl[512] 10.0.0.1:40312 → 10.0.0.2:8000  TLS 1.3 TLS_AES_128_GCM_SHA256 x25519
 *             spiffe://edge.example/curl → spiffe://edge.example/web
 *             by AccessPolicy/web#0 (enforce), 12 KiB sent, 1.1 MiB received, handshake 4.1 ms
 */
export function describeFlow(view: FlowView): string[] {
  const arrow = view.direction === "outbound" ? "→" : "←";
  const tls = [view.tls, view.suite, view.group, view.resumed ? "resumed" : undefined].filter(
    (part) => part !== undefined,
  );
  // A connection that was refused before its SYN has no local end.
  const local = /:0$/.test(view.local) ? "" : ` ${view.local}`;
  const head = `${view.process}[${view.pid}]${local} ${arrow} ${view.remote}  ${tls.join(" ")}`;
  const identities =
    view.own === undefined && view.peer === undefined
      ? []
      : [`${view.own ?? "(no identity)"} ${arrow} ${view.peer ?? "(no identity)"}`];
  const reason = describeReason(view.reason, view.state);
  const outcome = [
    `${view.rule === undefined ? "by no rule" : `by ${view.rule}`} (${view.mode})`,
    ...(reason === "" ? [] : [reason]),
    ...(view.wouldDeny ? ["ENFORCE WOULD DENY THIS"] : []),
    ...(view.alert === undefined ? [] : [`alert ${view.alert}`]),
    ...(view.error === undefined ? [] : [view.error]),
    ...(view.bytesSent + view.bytesReceived === 0
      ? []
      : [`${formatBytes(view.bytesSent)} sent, ${formatBytes(view.bytesReceived)} received`]),
    ...(view.handshakeMs === undefined ? [] : [`handshake ${view.handshakeMs.toFixed(1)} ms`]),
  ];
  const [first = "", ...rest] = [head, ...identities, outcome.join(", "), ...describeWay(view)].flatMap((text) =>
    indent(text, 8),
  );
  return [view.state.padEnd(8) + first.slice(8), ...rest];
}

/** A refusal ends with the question that says what would allow it. */
function describeWay(view: FlowView): string[] {
  if (view.state !== "denied") return [];
  const isInbound = view.direction === "inbound";
  // The address of who connects says nothing of where it may: only its identity does.
  const other = isInbound ? view.peer : view.remote;
  if (other === undefined) return [];
  return [
    `why, and what would allow it: riprap explain --from ${view.own ?? view.pid} --to ${other}${isInbound ? " --inbound" : ""}`,
  ];
}

export function describeExplain(view: ExplainView): string[] {
  const rule = view.rule === undefined ? "" : ` by ${view.rule}`;
  return [
    `${view.verdict}${rule} (mode ${view.mode})`,
    ...view.steps.flatMap((step, index) => hang(`${index + 1}. `, step)),
    ...(view.remedy === undefined
      ? []
      : [
          "",
          "What would allow it:",
          ...view.remedy
            .trimEnd()
            .split("\n")
            .map((line) => `  ${line}`),
        ]),
  ];
}

export function describeAttest(view: AttestView): string[] {
  const labels = Object.entries(view.labels).sort(([a], [b]) => (a < b ? -1 : 1));
  const rows = labels.flatMap(([name, values]) =>
    describeValues(values).map((value, index) => [index === 0 ? name : "", value]),
  );
  return [
    ...layOut([{ title: "LABEL" }, { title: `VALUE (process ${view.pid})` }], rows),
    "",
    ...(view.matches.length === 0
      ? ['No WorkloadIdentity selects this process: it has no identity. "riprap generate PID" writes one that does.']
      : view.matches.flatMap(describeMatch)),
  ];
}

/** Simple words (capabilities, PIDs) share a line; anything with a space or comma has one of its own. */
function describeValues(values: readonly string[]): readonly string[] {
  return values.every((value) => /^[A-Za-z0-9_./:-]+$/.test(value)) ? [values.join(", ")] : values;
}

function describeMatch(match: AttestView["matches"][number], index: number): string[] {
  const head = `${index === 0 ? "in force" : "matches too"}: ${match.spiffeId} by ${match.resource}`;
  return [...indent(head, 0), ...match.because.flatMap((because) => hang("  - ", because))];
}

function hang(bullet: string, text: string): string[] {
  const [first = "", ...rest] = indent(text, bullet.length);
  return [bullet + first.trimStart(), ...rest];
}
