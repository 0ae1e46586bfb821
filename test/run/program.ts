// Runs a program of the tests within a limit of time, its output told apart from another's beside it.

/** What a program that was ended at its limit is said to have ended with. */
export const LATE = 124;
const KILL_AFTER_MS = 10_000;
/** What it has left behind may hold the other end of its output: nobody waits for that. */
const LAST_WORDS_MS = 5_000;

// A tier that dies takes its programs along, and they their VMs.
const DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL"];

export interface ProgramOptions {
  environment?: Readonly<Record<string, string>>;
  cwd?: string;
  /** Ends the program with SIGTERM, and with SIGKILL when that is not enough. */
  signal: AbortSignal;
  /** Put before each line of its output, which is then written line by line; without it the output goes where ours goes. */
  prefix?: string;
  /** Where lines go; standard output if not given. */
  write?: (text: string) => void;
}

/** Its exit status; LATE when the signal ended it, 128 and more when another one did. */
export async function runProgram(command: readonly string[], options: ProgramOptions): Promise<number> {
  if (options.signal.aborted) return LATE;
  const streams = options.prefix === undefined ? "inherit" : "pipe";
  const child = Bun.spawn([...DIE_WITH_PARENT, ...command], {
    env: { ...process.env, ...options.environment },
    ...(options.cwd !== undefined && { cwd: options.cwd }),
    stdin: "ignore",
    stdout: streams,
    stderr: streams,
  });
  let killing: Timer | undefined;
  const end = (): void => {
    child.kill("SIGTERM");
    killing = setTimeout(() => child.kill("SIGKILL"), KILL_AFTER_MS);
  };
  options.signal.addEventListener("abort", end, { once: true });
  const write = options.write ?? ((text: string) => void process.stdout.write(text));
  const told = [child.stdout, child.stderr].map((stream) =>
    stream instanceof ReadableStream ? writeLines(stream, options.prefix ?? "", write) : undefined,
  );
  const code = await child.exited;
  clearTimeout(killing);
  options.signal.removeEventListener("abort", end);
  await endWithin(Promise.all(told), LAST_WORDS_MS);
  return options.signal.aborted ? LATE : code;
}

async function endWithin(task: Promise<unknown>, limitMs: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, limitMs);
  await Promise.race([task, promise]);
  clearTimeout(timer);
}

/** Writes each line whole with `prefix` before it, and a last one that has no end. */
export async function writeLines(
  stream: ReadableStream<Uint8Array>,
  prefix: string,
  write: (text: string) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  const take = (text: string): void => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    if (lines.length > 0) write(lines.map((line) => `${prefix}${line}\n`).join(""));
  };
  for await (const bytes of stream) take(decoder.decode(bytes, { stream: true }));
  take(decoder.decode());
  if (rest) write(`${prefix}${rest}\n`);
}
