// The commands that look at the living node: status, ps, flows, explain, attest, generate.

import type { AttestView, ExplainView, FlowView, ProcessView, StatusView } from "../../daemon/control/port.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, SOCKET_OPTION } from "../command.ts";
import {
  describeAttest,
  describeExplain,
  describeFlow,
  describeFlows,
  describeProcesses,
  describeStatus,
} from "../describe.ts";
import { show } from "../output.ts";
import { clientOf } from "../setting.ts";
import { usageError } from "../usage.ts";

const DAEMON_OPTIONS = [SOCKET_OPTION, CONFIG_OPTION];
const FLOWS_MAX = 10_000;
const BROKEN: ReadonlySet<FlowView["state"]> = new Set<FlowView["state"]>(["denied", "failed", "cut"]);

const status: Command = {
  words: ["status"],
  group: "See",
  sentence: "Show the node: plane, generations desired and applied, authority, warnings.",
  arguments: [],
  options: [JSON_OPTION, ...DAEMON_OPTIONS],
  example: "riprap status --json | jq .rules",
  async run(invocation, terminal) {
    show(await clientOf(invocation).get<StatusView>("/v1/status"), { invocation, terminal }, (view) =>
      describeStatus(view, Date.now()),
    );
    return 0;
  },
};

const ps: Command = {
  words: ["ps"],
  group: "See",
  sentence: "List the processes that have an identity.",
  arguments: [],
  options: [
    { name: "all", short: "a", sentence: "List those without an identity too." },
    JSON_OPTION,
    ...DAEMON_OPTIONS,
  ],
  example: "riprap ps --all",
  async run(invocation, terminal) {
    const query = { all: invocation.has("all") ? "1" : undefined };
    const views = await clientOf(invocation).get<readonly ProcessView[]>("/v1/processes", { query });
    show(views, { invocation, terminal }, (list) =>
      describeProcesses(list, { now: Date.now(), all: invocation.has("all") }),
    );
    return 0;
  },
};

const flows: Command = {
  words: ["flows"],
  group: "See",
  sentence: "List connections: who, with whom, by which rule, how protected.",
  notes: [
    "Live flows and those that ended lately, oldest first. With --follow, each change as it happens, until interrupted; with --json then one JSON object a line.",
  ],
  arguments: [],
  options: [
    { name: "live", sentence: "Only those that still live." },
    { name: "broken", sentence: "Only those that were denied, failed or were cut." },
    { name: "follow", short: "f", sentence: "Go on with each change as it happens." },
    {
      name: "limit",
      short: "n",
      value: "COUNT",
      sentence: `Show at most COUNT, 200 when not given, ${FLOWS_MAX} at most.`,
    },
    JSON_OPTION,
    ...DAEMON_OPTIONS,
  ],
  example: "riprap flows --follow",
  async run(invocation, terminal) {
    const limit = invocation.count("limit", { fallback: 200, min: 1, max: FLOWS_MAX });
    const [live, broken] = ["live", "broken"].map((name) => (invocation.has(name) ? "1" : undefined));
    if (live !== undefined && broken !== undefined)
      throw usageError("Cannot list flows: give --live or --broken, not both", "riprap flows");
    const client = clientOf(invocation);
    if (!invocation.has("follow")) {
      const query = { limit: String(limit), live, broken };
      const views = await client.get<readonly FlowView[]>("/v1/flows", { query });
      show(views, { invocation, terminal }, describeFlows);
      return 0;
    }
    for await (const view of client.follow<FlowView>("/v1/flows", {
      query: { follow: "1" },
      signal: terminal.signal,
    })) {
      if (live !== undefined && view.state !== "open") continue;
      if (broken !== undefined && !BROKEN.has(view.state)) continue;
      if (invocation.has("json")) terminal.print(JSON.stringify(view));
      else terminal.print(describeFlow(view).join("\n"));
    }
    return 0;
  },
};

const explain: Command = {
  words: ["explain"],
  group: "See",
  sentence: "Say whether a workload may reach another, why, and what would allow it.",
  notes: [
    "The answer comes from the compiler of the table that the kernel holds. The exit status is 0 whatever the verdict is.",
  ],
  arguments: [],
  options: [
    {
      name: "from",
      value: "WHO",
      required: true,
      sentence: "A PID, a SPIFFE ID, or a workload ID of a WorkloadIdentity.",
    },
    {
      name: "to",
      value: "WHERE",
      required: true,
      sentence: "ADDRESS:PORT, the name of a Service, a SPIFFE ID, or a workload ID.",
    },
    { name: "inbound", sentence: "Ask of the accepting side: may --from be reached by --to." },
    JSON_OPTION,
    ...DAEMON_OPTIONS,
  ],
  example: "riprap explain --from 4711 --to 10.0.0.2:5432",
  async run(invocation, terminal) {
    const query = {
      from: invocation.required("from"),
      to: invocation.required("to"),
      inbound: invocation.has("inbound") ? "1" : undefined,
    };
    show(
      await clientOf(invocation).get<ExplainView>("/v1/explain", { query }),
      { invocation, terminal },
      describeExplain,
    );
    return 0;
  },
};

const attest: Command = {
  words: ["attest"],
  group: "See",
  sentence: "Show what is known of a process, and which identities match it.",
  arguments: [{ name: "PID", sentence: "A living process." }],
  options: [JSON_OPTION, ...DAEMON_OPTIONS],
  example: "riprap attest 4711",
  async run(invocation, terminal) {
    const view = await clientOf(invocation).get<AttestView>(`/v1/attest/${invocation.pid("PID")}`);
    show(view, { invocation, terminal }, describeAttest);
    return 0;
  },
};

const generate: Command = {
  words: ["generate"],
  group: "See",
  sentence: "Write a WorkloadIdentity that selects a living process.",
  notes: ["Look it over before you apply it: it selects by what is most particular to this process."],
  arguments: [{ name: "PID", sentence: "A living process." }],
  options: [
    {
      name: "id",
      value: "WORKLOAD",
      sentence: "The workload ID, and the resource's name; the process's name when not given.",
    },
    JSON_OPTION,
    ...DAEMON_OPTIONS,
  ],
  example: "riprap generate 4711 --id web > web.yaml",
  async run(invocation, terminal) {
    const id = invocation.option("id");
    if (id !== undefined && !/^[A-Za-z0-9._/-]{1,253}$/.test(id)) {
      throw usageError(
        `Cannot use --id "${id}": a workload ID has letters, digits, ".", "-", "_" and "/"`,
        invocation.title,
      );
    }
    const document = await clientOf(invocation).text(`/v1/generate/${invocation.pid("PID")}`, { query: { id } });
    show({ document }, { invocation, terminal }, (answer) => [answer.document.trimEnd()]);
    return 0;
  },
};

export const SEE_COMMANDS: readonly Command[] = [status, ps, flows, explain, attest, generate];
