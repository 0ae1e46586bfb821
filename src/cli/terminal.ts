// What a command may do with the outside: print, read standard input, know of the environment, be told to stop.

export interface Terminal {
  /** A line to standard output. */
  print(line: string): void;
  /** A line to standard error. */
  warn(line: string): void;
  /** All of standard input, at most `bytesMax`. */
  readInput(bytesMax: number): Promise<Uint8Array>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
  /** Fires at SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
}

/** The process's own terminal. Its signal handlers are set here, once, by main.ts. */
export function openTerminal(): Terminal {
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => stop.abort());
  // The reader of a pipe went away (`riprap flows --follow | head`): nothing is left to say, and no failure.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
  });
  return {
    print: (line) => void process.stdout.write(`${line}\n`),
    warn: (line) => void process.stderr.write(`${line}\n`),
    readInput: readStandardInput,
    environment: process.env,
    uid: process.getuid?.() ?? 0,
    signal: stop.signal,
  };
}

async function readStandardInput(bytesMax: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of Bun.stdin.stream()) {
    chunks.push(chunk);
    size += chunk.byteLength;
    // One byte over is enough for the caller to refuse it.
    if (size > bytesMax) break;
  }
  return Buffer.concat(chunks);
}
