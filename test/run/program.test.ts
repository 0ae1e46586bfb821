import { describe, expect, test } from "bun:test";
import { LATE, runProgram, writeLines } from "./program.ts";

const never = new AbortController().signal;

async function linesOf(chunks: readonly (string | Uint8Array)[]): Promise<string[]> {
  const written: string[] = [];
  const bytes = chunks.map((chunk) => (typeof chunk === "string" ? new TextEncoder().encode(chunk) : chunk));
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of bytes) controller.enqueue(chunk);
      controller.close();
    },
  });
  await writeLines(stream, "1| ", (text) => written.push(text));
  return written;
}

describe("writeLines()", () => {
  test("writes whole lines however the bytes were cut", async () => {
    expect((await linesOf(["on", "e\ntw", "o\n\nthree", "\n"])).join("")).toBe("1| one\n1| two\n1| \n1| three\n");
  });

  test("keeps a letter that was cut in two, and ends a last line that has no end", async () => {
    const [first = 0, second = 0] = new TextEncoder().encode("é");
    expect((await linesOf([Uint8Array.of(first), Uint8Array.of(second)])).join("")).toBe("1| é\n");
    expect(await linesOf([])).toEqual([]);
  });
});

describe("runProgram()", () => {
  const run = (script: string, signal = never, write: (text: string) => void = () => {}) =>
    runProgram(["sh", "-c", script], { signal, prefix: "", write });

  test("gives the exit status, or 128 and the number of the signal that ended it", async () => {
    expect(await run("exit 3")).toBe(3);
    expect(await run("kill -KILL $$")).toBe(137);
  });

  test("gives LATE when its signal comes, and begins nothing when it has come already", async () => {
    const limit = new AbortController();
    const written: string[] = [];
    const code = await run("echo here; exec sleep 600", limit.signal, (text) => {
      written.push(text);
      limit.abort();
    });
    expect([code, written]).toEqual([LATE, ["here\n"]]);
    expect(await run("echo there", limit.signal, (text) => written.push(text))).toBe(LATE);
    expect(written).toEqual(["here\n"]);
  });
});
