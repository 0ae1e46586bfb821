// The commands about riprap itself: completion, version.

import { digestOf, KERNEL_SOURCE } from "../../daemon/kernel/source.ts";
import { VERSION } from "../../version.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { completionOf, SHELLS, type Shell } from "../completion.ts";
import { show } from "../output.ts";

/** `all` is the whole table, which these rows are part of. */
export function selfCommands(all: () => readonly Command[]): readonly Command[] {
  return [completionCommand(all), version];
}

function completionCommand(all: () => readonly Command[]): Command {
  return {
    words: ["completion"],
    group: "Riprap itself",
    sentence: "Write the completion script of a shell.",
    arguments: [{ name: "SHELL", choices: SHELLS, sentence: "Which shell." }],
    options: [],
    example: "riprap completion bash > /etc/bash_completion.d/riprap",
    async run(invocation, terminal) {
      const shell = SHELLS.find((name): name is Shell => name === invocation.argument("SHELL"));
      if (shell === undefined) throw new TypeError("the table checks the choices");
      terminal.print(completionOf(shell, all()));
      return 0;
    },
  };
}

const version: Command = {
  words: ["version"],
  group: "Riprap itself",
  sentence: "Print the version, and the digest of the module's source inside.",
  arguments: [],
  options: [JSON_OPTION],
  example: "riprap version",
  async run(invocation, terminal) {
    const answer = {
      version: VERSION,
      bun: Bun.version,
      architecture: process.arch,
      kernelSource: digestOf(KERNEL_SOURCE),
    };
    show(answer, { invocation, terminal }, () => [
      `riprap ${answer.version} (${answer.architecture}, Bun ${answer.bun}, module source ${answer.kernelSource})`,
    ]);
    return 0;
  },
};
