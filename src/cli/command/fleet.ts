// The commands that look at the fleet and change what it says: status, nodes, log, converge, nats-config.

import type { FleetEvent } from "../../daemon/fleet/event.ts";
import type { ConvergeView, FleetNodeView, FleetStatusView } from "../../daemon/fleet/port.ts";
import { patiently } from "../../patience.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, SOCKET_OPTION } from "../command.ts";
import { layOut } from "../grid.ts";
import { show } from "../output.ts";
import { clientOf } from "../setting.ts";

const DAEMON_OPTIONS = [JSON_OPTION, SOCKET_OPTION, CONFIG_OPTION];
const EVENTS_DEFAULT = 50;
const EVENTS_MAX = 10_000;
/** A fleet of a thousand nodes answers within seconds. */
const CONVERGE_MS = 60_000;

const status: Command = {
  words: ["fleet", "status"],
  group: "Fleet",
  sentence: "Show the fleet: generations desired and applied, node by node.",
  arguments: [],
  options: DAEMON_OPTIONS,
  example: "riprap fleet status",
  async run(invocation, terminal) {
    const view = await clientOf(invocation).get<FleetStatusView>("/v1/fleet/status");
    show(view, { invocation, terminal }, describeStatus);
    return 0;
  },
};

const nodes: Command = {
  words: ["fleet", "nodes"],
  group: "Fleet",
  sentence: "List the nodes: state, role, what each may issue, last seen.",
  arguments: [],
  options: DAEMON_OPTIONS,
  example: "riprap fleet nodes",
  async run(invocation, terminal) {
    const view = await clientOf(invocation).get<FleetStatusView>("/v1/fleet/status");
    show(view.nodes, { invocation, terminal }, (all) =>
      layOut(
        [
          { title: "NODE" },
          { title: "STATE" },
          { title: "ROLE" },
          { title: "GROUP" },
          { title: "LAST SEEN", isWhole: true },
          { title: "VERSION" },
          { title: "ADDRESSES" },
          { title: "MAY ISSUE" },
        ],
        all.map((node) => [
          node.name,
          node.state,
          node.isIssuer ? "issuer" : "",
          node.group,
          secondOf(node.lastSeen),
          node.version ?? "",
          node.addresses.join(" "),
          node.idPrefixes.join(" "),
        ]),
      ),
    );
    return 0;
  },
};

const log: Command = {
  words: ["fleet", "log"],
  group: "Fleet",
  sentence: "Show joins, refusals, revocations, changes and conflicts.",
  arguments: [],
  options: [
    { name: "limit", value: "COUNT", sentence: `The last COUNT events, ${EVENTS_DEFAULT} when not given.` },
    ...DAEMON_OPTIONS,
  ],
  example: "riprap fleet log --limit 20",
  async run(invocation, terminal) {
    const limit = invocation.count("limit", { fallback: EVENTS_DEFAULT, min: 1, max: EVENTS_MAX });
    const query = { limit: String(limit) };
    const events = await clientOf(invocation).get<readonly FleetEvent[]>("/v1/fleet/log", { query });
    show(events, { invocation, terminal }, (all) =>
      all.map(({ time, event, subject, detail }) =>
        `${new Date(time).toISOString()}  ${event}  ${subject}  ${detail}`.trimEnd(),
      ),
    );
    return 0;
  },
};

const converge: Command = {
  words: ["fleet", "converge"],
  group: "Fleet",
  sentence: "Compare with every node now, and exchange what differs.",
  notes: [
    "Nodes do so by themselves; this is for a person who does not want to wait. Exit status 1 when a node did not answer.",
  ],
  arguments: [],
  options: DAEMON_OPTIONS,
  example: "riprap fleet converge",
  async run(invocation, terminal) {
    const ask = { waitMs: CONVERGE_MS, signal: terminal.signal };
    const compared = clientOf(invocation).post<readonly ConvergeView[]>("/v1/fleet/converge", ask);
    const results = await patiently(compared, () => terminal.warn("riprap: comparing with every node"));
    show(results, { invocation, terminal }, (all) =>
      all.length === 0
        ? ["There is no other node."]
        : all.map(({ node, taken, given, error }) =>
            error === undefined ? `${node}: the same now, ${taken} taken, ${given} given` : `${node}: ${error}`,
          ),
    );
    return results.some(({ error }) => error !== undefined) ? 1 : 0;
  },
};

const renew: Command = {
  words: ["fleet", "renew"],
  group: "Fleet",
  sentence: "Ask an issuing node for this node's next intermediate now.",
  notes: ["Nodes do so by themselves when a third of its life is left. What was signed before stays good."],
  arguments: [],
  options: DAEMON_OPTIONS,
  example: "riprap fleet renew",
  async run(invocation, terminal) {
    const ask = { waitMs: CONVERGE_MS, signal: terminal.signal };
    const renewed = clientOf(invocation).post<{ notAfter: string }>("/v1/fleet/renew", ask);
    const answer = await patiently(renewed, () => terminal.warn("riprap: asking the issuing nodes, one after another"));
    show(answer, { invocation, terminal }, ({ notAfter }) => [`this node may issue until ${notAfter}`]);
    return 0;
  },
};

const natsConfig: Command = {
  words: ["fleet", "nats-config"],
  group: "Fleet",
  sentence: "Print a NATS configuration that gives each node what it needs.",
  notes: [
    "Include it in the server's own configuration, and restart the server the first time: a reload does not take up no_auth_user, and leaves all as it was.",
    "A node that joins later is not in it: print it anew and reload the server (nats-server --signal reload), or the server refuses that node. NATS is not trusted with anything: this keeps strangers from crowding the fleet's subjects.",
  ],
  arguments: [],
  options: [
    { name: "jetstream", sentence: "Let nodes keep statements in the server's JetStream, which has to be enabled." },
    {
      name: "import",
      value: "DOMAINS",
      sentence: "Take the trust bundles of these trust domains from their accounts on the same server.",
    },
    { name: "account", sentence: "Print the account alone, to be included in an accounts block of your own." },
    { name: "closed", sentence: "Let nobody in without an nkey: no node can join over this server then." },
    SOCKET_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap fleet nats-config > /etc/nats/riprap.conf",
  async run(invocation, terminal) {
    const flag = (name: string) => (invocation.has(name) ? "1" : undefined);
    const query = {
      ...{ jetstream: flag("jetstream"), closed: flag("closed"), account: flag("account") },
      import: invocation.option("import"),
    };
    terminal.print((await clientOf(invocation).text("/v1/fleet/nats-config", { query })).trimEnd());
    return 0;
  },
};

export const FLEET_COMMANDS: readonly Command[] = [status, nodes, log, converge, renew, natsConfig];

function describeStatus(view: FleetStatusView): string[] {
  const { node, trustDomain, state, reason, server, generation, statements, agreedAt } = view;
  return [
    `node ${node} of ${trustDomain}: ${state}${server === undefined ? "" : ` to ${server}`}`,
    ...(reason === undefined ? [] : [`  ${reason}`]),
    ...view.warnings.map((warning) => `warning: ${warning}`),
    `generation ${generation.number} (${generation.digest}), ${statements} statements, last agreed with another node ${agreedAt ?? "never"}`,
    ...layOut(
      [
        { title: "NODE" },
        { title: "STATE" },
        { title: "DESIRED" },
        { title: "APPLIED" },
        { title: "LAST SEEN", isWhole: true },
        { title: "" },
      ],
      view.nodes.map((each) => [
        each.name,
        each.state,
        String(generation.number),
        appliedOf(each),
        secondOf(each.lastSeen),
        each.failure ?? "",
      ]),
    ),
    ...view.roots.map(({ fingerprint, state: each }) => `root ${fingerprint}: ${each}`),
    ...view.revocations.map(
      ({ target, reason: why, statement }) => `revoked ${target}: ${why} (statement ${statement.slice(0, 16)})`,
    ),
  ];
}

function secondOf(time: string | undefined): string {
  return time?.replace(/\.\d+Z$/, "Z") ?? "never";
}

function appliedOf({ applied, isCurrent }: FleetNodeView): string {
  if (applied === undefined) return "none";
  return isCurrent ? String(applied.number) : `${applied.number} (other)`;
}
