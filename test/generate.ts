// Writes the files that are made from tables in the code: docs/cli.md, docs/CONFORMANCE.md and systemd/riprap.yaml. Tests hold them equal; `bun run generate` writes them.

import { dirname, join } from "node:path";
import { type Command, HELP_OPTION, type Option, synopsisOf } from "../src/cli/command.ts";
import { COMMANDS } from "../src/cli/table.ts";
import { CONFIG_PATH, CONFIG_TABLE } from "../src/daemon/config.ts";
import { conformancePage } from "./conformance.ts";

const ROOT = dirname(import.meta.dir);

/** Path below the root → the text that it must have. */
export const GENERATED: Readonly<Record<string, () => string>> = {
  "docs/CONFORMANCE.md": conformancePage,
  "docs/cli.md": manual,
  "systemd/riprap.yaml": configuration,
};

export function readGenerated(path: string): Promise<string> {
  return Bun.file(join(ROOT, path)).text();
}

function manual(): string {
  const groups = Map.groupBy(COMMANDS, (command) => command.group);
  return [
    "# The riprap command",
    "",
    "Made from the table of commands by `bun run generate`; `riprap COMMAND --help` says the same.",
    "",
    "Answers go to standard output, errors to standard error. The exit status is 0 when it was done, 1 when it was refused or",
    "failed, and 2 when the command line cannot be understood. With `--json` an answer is JSON of a stable shape, and an error is",
    '`{"code": …, "message": …}` on standard error. Commands that look at or change the living node ask the daemon over its',
    "control socket, which only root and the daemon's own user may open; the others work on the machine directly.",
    ...[...groups].flatMap(([group, commands]) => ["", `## ${group}`, ...commands.flatMap(section)]),
    "",
  ].join("\n");
}

function section(command: Command): string[] {
  return [
    "",
    `### riprap ${command.words.join(" ")}`,
    "",
    command.sentence,
    "",
    "```",
    synopsisOf(command),
    "```",
    ...(command.notes ?? []).flatMap((note) => ["", note]),
    "",
    "| argument or option | what it says |",
    "|---|---|",
    ...command.arguments.map((argument) => row(argument.name, argument.sentence, argument.choices)),
    ...[...command.options, HELP_OPTION].map((option) => row(nameOf(option), option.sentence, option.choices)),
    "",
    `Example: \`${command.example}\``,
  ];
}

function row(name: string, sentence: string, choices: readonly string[] | undefined): string {
  const text = choices === undefined ? sentence : `${sentence} One of ${choices.join(", ")}.`;
  return `| \`${name}\` | ${text.replaceAll("|", "\\|")} |`;
}

function nameOf({ name, short, value }: Option): string {
  const long = value === undefined ? `--${name}` : `--${name} ${value}`;
  return short === undefined ? long : `-${short}, ${long}`;
}

function configuration(): string {
  const entries = Object.entries(CONFIG_TABLE).map(
    ([key, entry]) => `\n# ${entry.sentence}\n#${key}: ${entry.default}`,
  );
  return [
    "# The configuration of riprap, with every setting and its default. Goes to",
    `# ${CONFIG_PATH}; without it, or with a line left out, the default is in`,
    "# force. An unknown key is an error. Made by `bun run generate`.",
    ...entries,
    "",
  ].join("\n");
}

if (import.meta.main) {
  for (const [path, render] of Object.entries(GENERATED)) await Bun.write(join(ROOT, path), render());
}
