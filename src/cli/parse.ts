// Parses a command line against the table: finds the command, then its options and arguments. Runs nothing.

import { type Command, HELP_OPTION, type Option, synopsisOf } from "./command.ts";
import { Invocation } from "./invocation.ts";
import { suggest } from "./suggest.ts";
import { usageError } from "./usage.ts";

export type Parsed =
  | { readonly ask: "run"; readonly invocation: Invocation }
  /** Help of these words: none for the program, one for a group, or a command's own. */
  | { readonly ask: "help"; readonly words: readonly string[] };

/** Throws a usage error that names the nearest known word. */
export function parseCommandLine(argv: readonly string[], commands: readonly Command[]): Parsed {
  if (argv[0] === "help") return { ask: "help", words: checkWords(argv.slice(1), commands) };
  const found = findCommand(argv, commands);
  if (found === undefined) return parseWithoutCommand(argv, commands);
  const rest = argv.slice(found.words.length);
  const { options, positionals } = parseOptions(found, rest);
  if (options.has(HELP_OPTION.name)) return { ask: "help", words: found.words };
  return {
    ask: "run",
    invocation: new Invocation(found, {
      arguments: nameArguments(found, positionals),
      options: checkOptions(found, options),
    }),
  };
}

function findCommand(argv: readonly string[], commands: readonly Command[]): Command | undefined {
  return commands.find((command) => command.words.every((word, index) => argv[index] === word));
}

function parseWithoutCommand(argv: readonly string[], commands: readonly Command[]): Parsed {
  const [first, second] = argv;
  if (first === undefined) throw usageError("Cannot do anything without a command");
  if (first === "--help" || first === "-h") return { ask: "help", words: [] };
  if (first === "--version") return parseCommandLine(["version"], commands);
  const group = commands.filter((command) => command.words.length > 1 && command.words[0] === first);
  if (group.length === 0)
    return refuseWord(
      first,
      commands.map((command) => command.words[0] ?? ""),
      "riprap",
    );
  if (second === undefined)
    throw usageError(
      `Cannot run "riprap ${first}": it needs one of ${group.map((command) => command.words[1]).join(", ")}`,
      `riprap ${first}`,
    );
  if (second === "--help" || second === "-h") return { ask: "help", words: [first] };
  return refuseWord(
    second,
    group.map((command) => command.words[1] ?? ""),
    `riprap ${first}`,
  );
}

function refuseWord(word: string, known: readonly string[], title: string): never {
  const what = word.startsWith("-") ? "option" : "command";
  const nearest = what === "command" ? suggest(word, known) : undefined;
  const hint = nearest === undefined ? "" : ` (did you mean "${title} ${nearest}"?)`;
  throw usageError(`Cannot run "${title} ${word}": there is no such ${what}${hint}`, title);
}

function checkWords(words: readonly string[], commands: readonly Command[]): readonly string[] {
  if (words.length === 0 || words[0] === "--help") return [];
  if (commands.some((command) => words.every((word, index) => command.words[index] === word))) return words;
  return refuseWord(
    words[0] ?? "",
    commands.map((command) => command.words[0] ?? ""),
    "riprap",
  );
}

interface Tokens {
  readonly options: Map<string, string>;
  readonly positionals: string[];
}

function parseOptions(command: Command, words: readonly string[]): Tokens {
  const known = [...command.options, HELP_OPTION];
  const tokens: Tokens = { options: new Map(), positionals: [] };
  let index = 0;
  while (index < words.length) {
    const word = words[index] ?? "";
    index += 1;
    if (word === "--") {
      tokens.positionals.push(...words.slice(index));
      break;
    }
    if (!word.startsWith("-") || word === "-") {
      tokens.positionals.push(word);
      continue;
    }
    const { option, value } = readOption(command, { word, known });
    if (tokens.options.has(option.name)) throw usageError(`Cannot use --${option.name} twice`, titleOf(command));
    if (option.value === undefined) {
      if (value !== undefined)
        throw usageError(`Cannot use --${option.name} with a value: it is a flag`, titleOf(command));
      tokens.options.set(option.name, "");
      continue;
    }
    // A value may be "-" (standard input) but not the next option.
    const next = value ?? words[index];
    if (next === undefined || next === "" || (value === undefined && next !== "-" && next.startsWith("-"))) {
      throw usageError(`Cannot use --${option.name} without its ${option.value}`, titleOf(command));
    }
    if (value === undefined) index += 1;
    tokens.options.set(option.name, next);
  }
  return tokens;
}

/** `--name`, `--name=value`, `-n`, `-nVALUE`. */
function readOption(
  command: Command,
  input: { word: string; known: readonly Option[] },
): { option: Option; value: string | undefined } {
  const { word, known } = input;
  const [, long, inline] = /^--([^=]+)(?:=([\s\S]*))?$/.exec(word) ?? [];
  const option =
    long === undefined ? known.find((entry) => entry.short === word[1]) : known.find((entry) => entry.name === long);
  if (option !== undefined) return { option, value: long === undefined ? word.slice(2) || undefined : inline };
  const nearest = suggest(
    long ?? "",
    known.map((entry) => entry.name),
  );
  const hint = nearest === undefined ? "" : ` (did you mean --${nearest}?)`;
  throw usageError(
    `Cannot use ${long === undefined ? word.slice(0, 2) : `--${long}`}: ${titleOf(command)} has no such option${hint}`,
    titleOf(command),
  );
}

function nameArguments(command: Command, positionals: readonly string[]): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const [index, argument] of command.arguments.entries()) {
    const value = positionals[index];
    if (value === undefined || value === "") {
      if (argument.optional === true) continue;
      throw usageError(
        `Cannot run "${titleOf(command)}" without ${argument.name}: ${synopsisOf(command)}`,
        titleOf(command),
      );
    }
    checkChoice(command, { what: argument.name, value, choices: argument.choices });
    values.set(argument.name, value);
  }
  const extra = positionals[command.arguments.length];
  if (extra !== undefined)
    throw usageError(`Cannot use "${extra}": ${titleOf(command)} takes no more arguments`, titleOf(command));
  return values;
}

function checkOptions(command: Command, options: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  for (const option of command.options) {
    const value = options.get(option.name);
    if (value !== undefined) checkChoice(command, { what: `--${option.name}`, value, choices: option.choices });
    else if (option.required === true) {
      throw usageError(
        `Cannot run "${titleOf(command)}" without --${option.name} ${option.value}: ${synopsisOf(command)}`,
        titleOf(command),
      );
    }
  }
  return options;
}

function checkChoice(
  command: Command,
  input: { what: string; value: string; choices: readonly string[] | undefined },
): void {
  const { what, value, choices } = input;
  if (choices === undefined || choices.includes(value)) return;
  throw usageError(`Cannot use ${what} "${value}": it must be one of ${choices.join(", ")}`, titleOf(command));
}

function titleOf(command: Command): string {
  return ["riprap", ...command.words].join(" ");
}
