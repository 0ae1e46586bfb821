// Writes the completion scripts of bash, zsh and fish from the table of commands. The scripts call nothing.

import { type Command, HELP_OPTION, type Option } from "./command.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

export function completionOf(shell: Shell, commands: readonly Command[]): string {
  const writers: Readonly<Record<Shell, (commands: readonly Command[]) => string>> = {
    bash: forBash,
    zsh: forZsh,
    fish: forFish,
  };
  return writers[shell](commands);
}

function forBash(commands: readonly Command[]): string {
  return `# bash completion of riprap: source it, or put it into /etc/bash_completion.d/riprap
_riprap() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" words=""
  case "$previous" in
    ${fileOptions(commands).join("|")}) COMPREPLY=($(compgen -f -- "$current")); return ;;
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="${firstWords(commands).join(" ")}"
  else
    case "\${COMP_WORDS[1]} \${COMP_WORDS[2]}" in
${commands.filter(isNested).map(bashCase).join("\n")}
      *)
        case "\${COMP_WORDS[1]}" in
${groupsOf(commands)
  .map(([group, members]) => `          ${group}) words="${members.map((member) => member.words[1]).join(" ")}" ;;`)
  .join("\n")}
${commands
  .filter((command) => !isNested(command))
  .map(bashCase)
  .map((line) => `    ${line}`)
  .join("\n")}
        esac ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _riprap riprap`;
}

function bashCase(command: Command): string {
  const pattern = isNested(command) ? `"${command.words.join(" ")}"` : command.words[0];
  return `      ${pattern}) words="${wordsAfter(command).join(" ")}" ;;`;
}

function forZsh(commands: readonly Command[]): string {
  const describe = (name: string, sentence: string) => `'${name}:${quote(sentence.replaceAll(":", "\\:"))}'`;
  const first = firstWords(commands).map((word) => describe(word, sentenceOf(word, commands)));
  const cases = commands.map((command) => {
    const specs = [...command.options, HELP_OPTION].map(zshOption);
    const choices = command.arguments.map((argument, index) =>
      argument.choices === undefined ? "" : `'${index + 1}:${argument.name}:(${argument.choices.join(" ")})'`,
    );
    return `    '${command.words.join(" ")}') _arguments ${[...specs, ...choices].filter((spec) => spec !== "").join(" ")} ;;`;
  });
  const groups = groupsOf(commands).map(([group, members]) => {
    const list = members.map((member) => describe(member.words[1] ?? "", member.sentence));
    return `    ${group}) if (( CURRENT == 3 )); then local -a members=(${list.join(" ")}); _describe command members; return; fi; key="$words[2] $words[3]"; shift 1 words; (( CURRENT-- )) ;;`;
  });
  return `#compdef riprap
# zsh completion of riprap: put it into a folder of $fpath as _riprap
_riprap() {
  local -a commands=(${first.join(" ")})
  if (( CURRENT == 2 )); then _describe command commands; return; fi
  local key="$words[2]"
  case "$words[2]" in
${groups.join("\n")}
  esac
  shift 1 words; (( CURRENT-- ))
  case "$key" in
${cases.join("\n")}
  esac
}
compdef _riprap riprap`;
}

function zshOption(option: Option): string {
  const sentence = quote(option.sentence.replaceAll(/[[\]]/g, " "));
  if (option.value === undefined) return `'--${option.name}[${sentence}]'`;
  const values = option.choices === undefined ? (isFile(option) ? "_files" : "") : `(${option.choices.join(" ")})`;
  return `'--${option.name}=[${sentence}]:${option.value}:${values}'`;
}

function forFish(commands: readonly Command[]): string {
  const lines = firstWords(commands).map(
    (word) => `complete -c riprap -n __fish_use_subcommand -f -a ${word} -d '${quote(sentenceOf(word, commands))}'`,
  );
  for (const [group, members] of groupsOf(commands)) {
    const names = members.map((member) => member.words[1]).join(" ");
    for (const member of members) {
      const when = `'__fish_seen_subcommand_from ${group}; and not __fish_seen_subcommand_from ${names}'`;
      lines.push(`complete -c riprap -n ${when} -f -a ${member.words[1]} -d '${quote(member.sentence)}'`);
    }
  }
  for (const command of commands) {
    const when = `'${command.words.map((word) => `__fish_seen_subcommand_from ${word}`).join("; and ")}'`;
    for (const argument of command.arguments) {
      if (argument.choices !== undefined)
        lines.push(`complete -c riprap -n ${when} -f -a '${argument.choices.join(" ")}'`);
    }
    for (const option of [...command.options, HELP_OPTION]) lines.push(fishOption(when, option));
  }
  return ["# fish completion of riprap: put it into ~/.config/fish/completions/riprap.fish", ...lines].join("\n");
}

function fishOption(when: string, option: Option): string {
  const short = option.short === undefined ? "" : ` -s ${option.short}`;
  const choices = option.choices === undefined ? "" : ` -f -a '${option.choices.join(" ")}'`;
  const value = option.value === undefined ? "" : isFile(option) ? " -r -F" : ` -r${choices === "" ? " -f" : choices}`;
  return `complete -c riprap -n ${when} -l ${option.name}${short}${value} -d '${quote(option.sentence)}'`;
}

function isNested(command: Command): boolean {
  return command.words.length > 1;
}

function firstWords(commands: readonly Command[]): string[] {
  return [...new Set(commands.map((command) => command.words[0] ?? ""))];
}

function groupsOf(commands: readonly Command[]): [string, Command[]][] {
  const nested = Map.groupBy(commands.filter(isNested), (command) => command.words[0] ?? "");
  return [...nested];
}

function sentenceOf(word: string, commands: readonly Command[]): string {
  const own = commands.filter((command) => command.words[0] === word);
  return own.length === 1 && own[0] !== undefined ? own[0].sentence : own.map((command) => command.words[1]).join(", ");
}

function wordsAfter(command: Command): string[] {
  const options = [...command.options, HELP_OPTION].map((option) => `--${option.name}`);
  return [...command.arguments.flatMap((argument) => argument.choices ?? []), ...options];
}

function isFile(option: Option): boolean {
  return option.value === "FILE" || option.value === "PATH" || option.value === "FOLDER";
}

function fileOptions(commands: readonly Command[]): string[] {
  const options = commands.flatMap((command) => command.options).filter(isFile);
  return [
    ...new Set(
      options.flatMap((option) => [`--${option.name}`, ...(option.short === undefined ? [] : [`-${option.short}`])]),
    ),
  ];
}

/** For the inside of single quotes. */
function quote(text: string): string {
  return text.replaceAll("'", "'\\''");
}
