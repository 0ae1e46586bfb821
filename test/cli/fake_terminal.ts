// A terminal that keeps what was printed.

import type { Terminal } from "../../src/cli/terminal.ts";

export interface FakeTerminal extends Terminal {
  readonly out: string[];
  readonly err: string[];
  interrupt(): void;
}

export function fakeTerminal(input = ""): FakeTerminal {
  const [out, err]: [string[], string[]] = [[], []];
  const stop = new AbortController();
  return {
    out,
    err,
    interrupt: () => stop.abort(),
    print: (line) => void out.push(line),
    warn: (line) => void err.push(line),
    readInput: async (bytesMax) => Buffer.from(input).subarray(0, bytesMax + 1),
    environment: {},
    uid: 0,
    signal: stop.signal,
  };
}
