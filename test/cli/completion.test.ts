// The completion scripts: every shell that is here parses its own, and bash completes by it.

import { describe, expect, test } from "bun:test";
import { completionOf, SHELLS } from "../../src/cli/completion.ts";
import { COMMANDS } from "../../src/cli/table.ts";

describe("completionOf", () => {
  for (const shell of SHELLS) {
    const path = Bun.which(shell);
    test.skipIf(path === null)(
      `completionOf() writes what ${shell} parses (skipped where there is no ${shell})`,
      async () => {
        const child = Bun.spawn([path ?? shell, shell === "fish" ? "--no-execute" : "-n"], {
          stdin: Buffer.from(completionOf(shell, COMMANDS)),
          stderr: "pipe",
        });
        expect(await new Response(child.stderr).text()).toBe("");
        expect(await child.exited).toBe(0);
      },
    );

    test(`completionOf() names every command and option for ${shell}`, () => {
      const script = completionOf(shell, COMMANDS);
      for (const command of COMMANDS) {
        for (const word of command.words) expect(script).toContain(word);
        for (const option of command.options) expect(script).toContain(option.name);
      }
    });
  }

  test.each([
    [["riprap", "ker"], ["kernel"]],
    [["riprap", "kernel", "u"], ["unload"]],
    [["riprap", "kernel", "unload", "--dr"], ["--drain-timeout"]],
    [["riprap", "get", "Acc"], ["AccessPolicy"]],
    [["riprap", "wait-ready", "--t"], ["--timeout"]],
  ])("bash completes %j to %j", async (words, expected) => {
    const script = `${completionOf("bash", COMMANDS)}
COMP_WORDS=(${words.join(" ")}); COMP_CWORD=${words.length - 1}; _riprap; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const child = Bun.spawn(["bash", "-c", script], { stdout: "pipe" });
    expect((await new Response(child.stdout).text()).trim().split("\n")).toEqual(expected);
  });
});
