// The commands that change and list the resources: apply, get, delete.

import type { ApplyView, ResourceView } from "../../daemon/control/port.ts";
import { RiprapError } from "../../error.ts";
import type { FleetScope } from "../../fleet.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, type Option, SOCKET_OPTION } from "../command.ts";
import { applyToFleet, deleteFromFleet, type FleetWordView } from "../fleet_word.ts";
import { layOut } from "../grid.ts";
import type { Invocation } from "../invocation.ts";
import { show } from "../output.ts";
import { clientOf } from "../setting.ts";
import { readSource } from "../source.ts";
import { usageError } from "../usage.ts";

const DAEMON_OPTIONS = [SOCKET_OPTION, CONFIG_OPTION];
const KINDS = ["WorkloadIdentity", "Service", "AccessPolicy", "TrustDomain", "NodeGroup"];

const FLEET_OPTION: Option = {
  name: "fleet",
  sentence: "On every node of the fleet, signed with the operator's key of this machine.",
};

const apply: Command = {
  words: ["apply"],
  group: "Rules",
  sentence: "Check resources and put them in force, all of them or none.",
  notes: ["An error names file, line and field, and the last good generation stays in force."],
  arguments: [],
  options: [
    {
      name: "file",
      short: "f",
      value: "FILE",
      required: true,
      sentence: "A YAML file, a folder of them, or - for standard input.",
    },
    FLEET_OPTION,
    { name: "group", value: "NAME", sentence: "With --fleet: only on the nodes of this group." },
    { name: "node", value: "NAME", sentence: "With --fleet: only on this node." },
    JSON_OPTION,
    ...DAEMON_OPTIONS,
  ],
  example: "riprap apply -f rules.yaml",
  async run(invocation, terminal) {
    const path = invocation.required("file");
    const source = await readSource(path, terminal);
    const ask = { query: { name: source.name }, body: source.text };
    const client = clientOf(invocation);
    const locate = (thrown: unknown): never => {
      if (!(thrown instanceof RiprapError)) throw thrown;
      throw new RiprapError(thrown.code, source.locate(thrown.message), { cause: thrown });
    };
    if (invocation.has("fleet")) {
      const scope = scopeOf(invocation);
      const word = await applyToFleet(source, { client, invocation, scope }).catch(locate);
      show(word, { invocation, terminal }, describeWord);
      return 0;
    }
    const view = await client.post<ApplyView>("/v1/apply", ask).catch(locate);
    show(view, { invocation, terminal }, (answer) => describeApply(answer, "applied"));
    return 0;
  },
};

const get: Command = {
  words: ["get"],
  group: "Rules",
  sentence: "List the resources in force, or print one.",
  arguments: [
    { name: "KIND", optional: true, choices: KINDS, sentence: "Only resources of this kind." },
    { name: "NAME", optional: true, sentence: "Print the one of this name as YAML." },
  ],
  options: [JSON_OPTION, ...DAEMON_OPTIONS],
  example: "riprap get AccessPolicy web",
  async run(invocation, terminal) {
    const [kind, name] = [invocation.optionalArgument("KIND"), invocation.optionalArgument("NAME")];
    const views = await clientOf(invocation).get<readonly ResourceView[]>("/v1/resources", { query: { kind } });
    if (name === undefined) {
      show(views, { invocation, terminal }, describeResources);
      return 0;
    }
    const view = views.find((candidate) => candidate.name === name);
    if (view === undefined)
      throw new RiprapError(
        "not_found",
        `Cannot get ${kind} ${name}: there is no such resource; "riprap get ${kind}" lists them`,
      );
    show(view, { invocation, terminal }, (answer) => [`# ${answer.source}`, ...formatYaml(answer.document)]);
    return 0;
  },
};

const remove: Command = {
  words: ["delete"],
  group: "Rules",
  sentence: "Remove a resource and put what is left in force.",
  arguments: [
    { name: "KIND", choices: KINDS, sentence: "The resource's kind." },
    { name: "NAME", sentence: "The resource's name." },
  ],
  options: [FLEET_OPTION, JSON_OPTION, ...DAEMON_OPTIONS],
  example: "riprap delete AccessPolicy web",
  async run(invocation, terminal) {
    if (invocation.has("fleet")) {
      const parts = { client: clientOf(invocation), invocation, scope: { type: "all" } as const };
      const key = { kind: invocation.argument("KIND"), name: invocation.argument("NAME") };
      show(await deleteFromFleet(key, parts), { invocation, terminal }, describeWord);
      return 0;
    }
    const query = { kind: invocation.argument("KIND"), name: invocation.argument("NAME") };
    const view = await clientOf(invocation).post<ApplyView>("/v1/remove", { query });
    show(view, { invocation, terminal }, (answer) => describeApply(answer, "changed"));
    return 0;
  },
};

export const RULE_COMMANDS: readonly Command[] = [apply, get, remove];

function scopeOf(invocation: Invocation): FleetScope {
  const [group, node] = [invocation.option("group"), invocation.option("node")];
  if (group !== undefined && node !== undefined)
    throw usageError("Cannot use --group and --node together", invocation.title);
  if (group !== undefined) return { type: "group", name: group };
  return node === undefined ? { type: "all" } : { type: "node", name: node };
}

function describeWord({ generation, scope, said }: FleetWordView): string[] {
  return [
    `generation ${generation} said to the fleet (${scope}); riprap fleet status shows who has applied it`,
    ...said.map(({ key }) => `  ${key.replace(/^resource\//, "")}`),
  ];
}

function describeApply(view: ApplyView, verb: string): string[] {
  return [
    `generation ${view.generation} ${verb}`,
    ...view.written.map((line) => `  ${line}`),
    ...view.warnings.map((line) => `warning: ${line}`),
  ];
}

function describeResources(views: readonly ResourceView[]): string[] {
  if (views.length === 0) return ["No resource yet: apply one with riprap apply -f FILE."];
  return layOut(
    [{ title: "KIND" }, { title: "NAME" }, { title: "SOURCE" }],
    views.map((view) => [view.kind, view.name, view.source]),
  );
}

function formatYaml(document: unknown): string[] {
  return Bun.YAML.stringify(document, undefined, 2).trimEnd().split("\n");
}
