// A program of the bench that is told what to do by lines, and the processor time of any program. Measures nothing by itself.

import { readFileSync } from "node:fs";

/** Ticks of /proc are hundredths of a second on every Linux that matters here. */
const TICKS_PER_SECOND = 100;

export class Program {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;

  constructor(command: string[]) {
    this.#child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
    this.#lines = linesOf(this.#child.stdout);
  }

  /** Says a line and reads the answer; without a line only reads. */
  async ask<T>(line?: string): Promise<T> {
    if (line !== undefined) {
      this.#child.stdin.write(`${line}\n`);
      this.#child.stdin.flush();
    }
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error("a program of the bench has ended");
    return JSON.parse(value) as T;
  }

  async end(): Promise<void> {
    this.#child.stdin.end();
    await this.#child.exited;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

/** Processor seconds that a process has used, in user space and in the kernel for it. */
export function cpuSeconds(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
