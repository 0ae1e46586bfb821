// Speaks to the daemon over its control socket. Says plainly when there is no daemon, no right to ask, or no answer.

import { describeError, RiprapError } from "../error.ts";

/** The daemon answers from memory; only an apply with name resolution takes seconds. */
const ANSWER_MS = 30_000;
/** A line of a stream is one view; a flow is about 700 bytes. */
const LINE_CHARS_MAX = 1_048_576;

export interface Ask {
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: string;
  readonly signal?: AbortSignal;
  /** Added to the time that the daemon has for its answer. */
  readonly waitMs?: number;
}

export interface ControlClient {
  readonly path: string;
  get<T>(route: string, ask?: Ask): Promise<T>;
  text(route: string, ask?: Ask): Promise<string>;
  post<T>(route: string, ask?: Ask): Promise<T>;
  /** Each line of an NDJSON answer, until the signal. Throws `daemon_lost` when the daemon ends the stream. */
  follow<T>(route: string, ask: Ask & { readonly signal: AbortSignal }): AsyncIterable<T>;
}

/** Connects at each request; nothing is held open between them. */
export function controlClient(path: string): ControlClient {
  const send = (method: string, route: string, ask: Ask) => request(path, { method, route, ask });
  return {
    path,
    get: async <T>(route: string, ask: Ask = {}) => parseJson<T>(await readText(path, await send("GET", route, ask))),
    text: async (route, ask = {}) => readText(path, await send("GET", route, ask)),
    post: async <T>(route: string, ask: Ask = {}) => parseJson<T>(await readText(path, await send("POST", route, ask))),
    follow: <T>(route: string, ask: Ask & { readonly signal: AbortSignal }) => followLines<T>(path, route, ask),
  };
}

async function request(
  path: string,
  input: { method: string; route: string; ask: Ask; endless?: boolean },
): Promise<Response> {
  const { method, route, ask } = input;
  const url = new URL(route, "http://riprap");
  for (const [name, value] of Object.entries(ask.query ?? {}))
    if (value !== undefined) url.searchParams.set(name, value);
  const limit = input.endless === true ? [] : [AbortSignal.timeout(ANSWER_MS + (ask.waitMs ?? 0))];
  const signal = AbortSignal.any([...(ask.signal === undefined ? [] : [ask.signal]), ...limit]);
  let response: Response;
  try {
    response = await fetch(url, {
      unix: path,
      method,
      signal,
      // Bun's own limit of five minutes would end a quiet stream.
      timeout: false,
      ...(ask.body === undefined ? {} : { body: ask.body }),
    } as BunFetchRequestInit);
  } catch (thrown) {
    throw explainFailure(path, thrown);
  }
  if (response.ok) return response;
  throw await parseFailure(path, response);
}

async function readText(path: string, response: Response): Promise<string> {
  try {
    return await response.text();
  } catch (thrown) {
    throw explainFailure(path, thrown);
  }
}

function parseJson<T>(text: string): T {
  // The daemon is of this same build: its shapes are those of port.ts.
  return JSON.parse(text) as T;
}

async function* followLines<T>(
  path: string,
  route: string,
  ask: Ask & { readonly signal: AbortSignal },
): AsyncGenerator<T> {
  const response = await request(path, { method: "GET", route, ask, endless: true });
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for await (const chunk of response.body ?? []) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line !== "") yield parseJson<T>(line);
      if (rest.length > LINE_CHARS_MAX)
        throw new RiprapError("daemon_lost", `Cannot read from ${path}: a line has no end`);
    }
  } catch (thrown) {
    if (ask.signal.aborted) return;
    throw thrown instanceof RiprapError ? thrown : lost(path, thrown);
  }
  if (!ask.signal.aborted) throw lost(path);
}

function lost(path: string, cause?: unknown): RiprapError {
  return new RiprapError(
    "daemon_lost",
    `Cannot follow any longer: the riprap daemon at ${path} went away; established connections go on without it, and it can be started again with "systemctl start riprap"`,
    { cause },
  );
}

async function parseFailure(path: string, response: Response): Promise<RiprapError> {
  const text = await readText(path, response);
  try {
    const { code, message } = JSON.parse(text) as { code?: unknown; message?: unknown };
    if (typeof code === "string" && typeof message === "string") return new RiprapError(code, message);
  } catch {
    // What answers there is no riprap daemon, which the sentence below says.
  }
  return new RiprapError(
    "unavailable",
    `Cannot understand what answers at ${path} (HTTP ${response.status}): is it a riprap daemon?`,
  );
}

function explainFailure(path: string, thrown: unknown): RiprapError {
  const code = (thrown as { code?: unknown } | undefined)?.code;
  const cause = { cause: thrown };
  if (code === "EACCES" || code === "EPERM") {
    return new RiprapError(
      "forbidden",
      `Cannot reach the riprap daemon at ${path}: only root and the daemon's own user may; run this with sudo`,
      cause,
    );
  }
  if (code === "ENOENT" || code === "ECONNREFUSED" || code === "FailedToOpenSocket") {
    const fact = code === "ECONNREFUSED" ? "nobody listens there any more" : "there is no such socket";
    return new RiprapError(
      "unreachable",
      `Cannot reach the riprap daemon at ${path}: ${fact}; start it with "systemctl start riprap", or in the foreground with "riprap run"`,
      cause,
    );
  }
  if (thrown instanceof DOMException && thrown.name === "TimeoutError") {
    return new RiprapError(
      "unavailable",
      `Cannot get an answer from the riprap daemon at ${path}: it took the request and stays silent; see its log with "journalctl -u riprap"`,
      cause,
    );
  }
  if (thrown instanceof DOMException && thrown.name === "AbortError")
    return new RiprapError("interrupted", "Cannot go on: interrupted", cause);
  return new RiprapError(
    "unavailable",
    `Cannot get an answer from the riprap daemon at ${path}: ${describeError(thrown)}; see its log with "journalctl -u riprap"`,
    cause,
  );
}
