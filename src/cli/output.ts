// Prints an answer: JSON when asked, lines for a person otherwise.

import type { Invocation } from "./invocation.ts";
import type { Terminal } from "./terminal.ts";

/** The whole answer as JSON with `--json`, else the lines of `describe`. */
export function show<T>(
  answer: T,
  to: { invocation: Invocation; terminal: Terminal },
  describe: (answer: T) => readonly string[],
): void {
  if (to.invocation.has("json")) to.terminal.print(JSON.stringify(answer, undefined, 2));
  else for (const line of describe(answer)) to.terminal.print(line);
}
