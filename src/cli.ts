// The riprap command: parses, runs, and turns every failure into one sentence on standard error and an exit status.

import { helpOf } from "./cli/help.ts";
import { parseCommandLine } from "./cli/parse.ts";
import { COMMANDS } from "./cli/table.ts";
import type { Terminal } from "./cli/terminal.ts";
import { USAGE } from "./cli/usage.ts";
import { describeError, RiprapError } from "./error.ts";

export type ExitStatus = 0 | 1 | 2;

/** Exit status 0 done, 1 failed or refused, 2 the command line cannot be understood. Never throws. */
export async function runCli(argv: readonly string[], terminal: Terminal): Promise<number> {
  try {
    const parsed = parseCommandLine(argv, COMMANDS);
    if (parsed.ask === "help") {
      terminal.print(helpOf(parsed.words, COMMANDS));
      return 0;
    }
    return await parsed.invocation.command.run(parsed.invocation, terminal);
  } catch (thrown) {
    return report(thrown, { terminal, json: argv.includes("--json") });
  }
}

function report(thrown: unknown, options: { terminal: Terminal; json: boolean }): ExitStatus {
  const code = thrown instanceof RiprapError ? thrown.code : "internal";
  // A failure that we did not foresee is our bug: its stack is what a report of it needs.
  const detail = thrown instanceof RiprapError || !(thrown instanceof Error) ? "" : `\n${thrown.stack ?? ""}`;
  if (options.json) options.terminal.warn(JSON.stringify({ code, message: describeError(thrown) }));
  else options.terminal.warn(withoutControls(`riprap: ${describeError(thrown)}${detail}`));
  return code === USAGE ? 2 : 1;
}

/** A sentence may quote a file or an answer of others: what they wrote moves no cursor. */
function withoutControls(text: string): string {
  return text.replaceAll(/(?!\n)\p{Cc}/gu, "?");
}
