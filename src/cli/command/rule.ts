// The commands that change and list the resources: apply, get, delete.

import type { ApplyView, ResourceView } from "../../daemon/control/port.ts";
import { RiprapError } from "../../error.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, SOCKET_OPTION } from "../command.ts";
import { layOut } from "../grid.ts";
import { show } from "../output.ts";
import { clientOf } from "../setting.ts";
import { readSource } from "../source.ts";

const DAEMON_OPTIONS = [SOCKET_OPTION, CONFIG_OPTION];
const KINDS = ["WorkloadIdentity", "Service", "AccessPolicy", "TrustDomain"];

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
    JSON_OPTION,
    ...DAEMON_OPTIONS,
  ],
  example: "riprap apply -f rules.yaml",
  async run(invocation, terminal) {
    const path = invocation.required("file");
    const source = await readSource(path, terminal);
    const ask = { query: { name: source.name }, body: source.text };
    let view: ApplyView;
    try {
      view = await clientOf(invocation).post<ApplyView>("/v1/apply", ask);
    } catch (thrown) {
      if (!(thrown instanceof RiprapError)) throw thrown;
      throw new RiprapError(thrown.code, source.locate(thrown.message), { cause: thrown });
    }
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
  options: [JSON_OPTION, ...DAEMON_OPTIONS],
  example: "riprap delete AccessPolicy web",
  async run(invocation, terminal) {
    const query = { kind: invocation.argument("KIND"), name: invocation.argument("NAME") };
    const view = await clientOf(invocation).post<ApplyView>("/v1/remove", { query });
    show(view, { invocation, terminal }, (answer) => describeApply(answer, "changed"));
    return 0;
  },
};

export const RULE_COMMANDS: readonly Command[] = [apply, get, remove];

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
