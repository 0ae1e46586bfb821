// Writes the help texts from the table of commands: of the program, of a group of commands, of one command.

import { type Command, formatOption, HELP_OPTION, type Option, synopsisOf } from "./command.ts";
import { indent, wrap } from "./grid.ts";

const GROUPS = ["Set up", "Fleet", "Run", "Rules", "See", "Authorities", "Machine", "Riprap itself"] as const;

/** The help of `words`: the program's for none, a group's, or a command's. */
export function helpOf(words: readonly string[], commands: readonly Command[]): string {
  const chosen = commands.filter((command) => words.every((word, index) => command.words[index] === word));
  const [only] = chosen;
  if (only !== undefined && chosen.length === 1 && only.words.length === words.length) return helpOfCommand(only);
  return words.length === 0 ? helpOfProgram(commands) : helpOfGroup(words, chosen);
}

function helpOfProgram(commands: readonly Command[]): string {
  return [
    "riprap: a SPIFFE identity for every process, held to it by the kernel",
    "",
    "Usage: riprap COMMAND [ARGUMENT…] [OPTION…]",
    ...GROUPS.flatMap((group) => [
      "",
      `${group}:`,
      ...listCommands(commands.filter((command) => command.group === group)),
    ]),
    "",
    ...wrap(
      "A first node: riprap doctor; riprap init edge.example; riprap run; riprap apply -f rules.yaml; riprap flows",
      100,
    ),
    "Help of one command: riprap COMMAND --help",
  ].join("\n");
}

function helpOfGroup(words: readonly string[], commands: readonly Command[]): string {
  const title = ["riprap", ...words].join(" ");
  return [
    `Usage: ${title} COMMAND`,
    "",
    ...listCommands(commands),
    "",
    `Help of one command: ${title} COMMAND --help`,
  ].join("\n");
}

function listCommands(commands: readonly Command[]): string[] {
  return commands.map((command) => `  ${command.words.join(" ").padEnd(16)}  ${command.sentence}`);
}

function helpOfCommand(command: Command): string {
  const options = [...command.options, HELP_OPTION];
  return [
    `Usage: ${wrap(synopsisOf(command), 93).join("\n       ")}`,
    "",
    ...wrap(command.sentence, 100),
    ...(command.notes ?? []).flatMap((note) => ["", ...wrap(note, 100)]),
    ...(command.arguments.length === 0 ? [] : ["", "Arguments:"]),
    ...command.arguments.flatMap((argument) =>
      describe(argument.name, withChoices(argument.sentence, argument.choices)),
    ),
    "",
    "Options:",
    ...options.flatMap((option) => describe(nameOption(option), withChoices(option.sentence, option.choices))),
    "",
    "Example:",
    `  ${command.example}`,
  ].join("\n");
}

function describe(name: string, sentence: string): string[] {
  const lines = indent(sentence, 26);
  if (name.length > 22) return [`  ${name}`, ...lines];
  return [`  ${name.padEnd(24)}${(lines[0] ?? "").trimStart()}`, ...lines.slice(1)];
}

function nameOption(option: Option): string {
  const long = option.value === undefined ? `--${option.name}` : `--${option.name} ${option.value}`;
  return option.short === undefined
    ? long
    : `${formatOption({ name: option.name, short: option.short, sentence: "" })}, ${long}`;
}

function withChoices(sentence: string, choices: readonly string[] | undefined): string {
  return choices === undefined ? sentence : `${sentence} One of ${choices.join(", ")}.`;
}
