// What a command is: one row of the table from which dispatch, help, completion and docs/cli.md are made.

import type { Invocation } from "./invocation.ts";
import type { Terminal } from "./terminal.ts";

/** A flag (`--name`), or with `value` an option (`--name VALUE`). */
export interface Option {
  readonly name: string;
  readonly short?: string;
  /** What stands for the value in the synopsis; absent for a flag. */
  readonly value?: string;
  readonly required?: boolean;
  /** The only values, for checking and completion. */
  readonly choices?: readonly string[];
  readonly sentence: string;
}

export interface Argument {
  readonly name: string;
  readonly optional?: boolean;
  readonly choices?: readonly string[];
  readonly sentence: string;
}

export type Group = "Set up" | "Fleet" | "Run" | "Rules" | "See" | "Authorities" | "Machine" | "Riprap itself";

export interface Command {
  /** `["kernel", "build"]` for `riprap kernel build`. */
  readonly words: readonly string[];
  readonly group: Group;
  /** One sentence, first word a verb. */
  readonly sentence: string;
  /** More to know, a paragraph an entry. */
  readonly notes?: readonly string[];
  readonly arguments: readonly Argument[];
  readonly options: readonly Option[];
  /** A line that can be copied. */
  readonly example: string;
  /** Resolves with the exit status: 0 done, 1 not. Failures throw RiprapError. */
  run(invocation: Invocation, terminal: Terminal): Promise<number>;
}

export const CONFIG_OPTION: Option = {
  name: "config",
  value: "FILE",
  sentence: "Read the configuration from FILE instead of /etc/riprap/riprap.yaml.",
};

export const JSON_OPTION: Option = {
  name: "json",
  sentence: "Print JSON of a stable shape; errors too, on standard error.",
};

export const SOCKET_OPTION: Option = {
  name: "socket",
  value: "PATH",
  sentence: "Reach the daemon at PATH instead of the configured control socket.",
};

export const HELP_OPTION: Option = { name: "help", short: "h", sentence: "Print this help." };

/** `riprap get [KIND [NAME]] [--json]`: the line that says how to call it. */
export function synopsisOf(command: Command): string {
  const required = command.options.filter((option) => option.required === true).map(formatOption);
  const optional = command.options
    .filter((option) => option.required !== true)
    .map((option) => `[${formatOption(option)}]`);
  return ["riprap", ...command.words, ...formatArguments(command.arguments), ...required, ...optional].join(" ");
}

/** `-f, --file FILE`, as a synopsis shows it (`--file FILE`). */
export function formatOption(option: Option): string {
  const name = option.short === undefined ? `--${option.name}` : `-${option.short}`;
  return option.value === undefined ? name : `${name} ${option.value}`;
}

function formatArguments(list: readonly Argument[]): string[] {
  const firstOptional = list.findIndex((argument) => argument.optional === true);
  if (firstOptional === -1) return list.map((argument) => argument.name);
  const nested = list
    .slice(firstOptional)
    .reduceRight((inner, argument) => (inner === "" ? `[${argument.name}]` : `[${argument.name} ${inner}]`), "");
  return [...list.slice(0, firstOptional).map((argument) => argument.name), nested];
}
