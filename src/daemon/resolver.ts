// Resolves names for a daemon that has no network: a service on a Unix socket, and the daemon's side of it. Knows nothing but names.

import { describeError, RiprapError } from "../error.ts";
import { type ControlListener, listenOnUnixSocket } from "./control/listener.ts";
import { type ResolvedAddress, type ResolveName, resolveByMachine } from "./name.ts";

/** Each question holds a few sockets for seconds; the daemon asks for its services one after the other. */
const QUESTIONS_MAX = 64;
/** RFC 1035 section 2.3.4. */
const NAME_CHARS_MAX = 253;
/** Two tries of two seconds, and the system's own. */
const PATIENCE_MS = 15_000;
/** Sixty-four addresses are about 4 KiB. */
const ANSWER_CHARS_MAX = 65_536;

/** Anyone on this machine may ask (mode 0666): the answers are anyone's to have. */
export function openResolver(path: string, resolve: ResolveName = resolveByMachine): Promise<ControlListener> {
  let open = 0;
  const answer = async (request: Request): Promise<Response> => {
    const url = new URL(request.url);
    const name = url.searchParams.get("name") ?? "";
    if (url.pathname !== "/v1/resolve" || !isHostName(name))
      return refuse(400, `"${name.slice(0, 64)}" is no host name`);
    if (open >= QUESTIONS_MAX) return refuse(503, `${QUESTIONS_MAX} questions are open`);
    open += 1;
    try {
      return Response.json(await resolve(name));
    } catch (thrown) {
      return refuse(404, describeError(thrown));
    } finally {
      open -= 1;
    }
  };
  return listenOnUnixSocket(path, answer, { mode: 0o666 });
}

/** Asks the resolver at `path`. Rejects with RiprapError `unresolved`. */
export function resolveThrough(path: string): ResolveName {
  return async (name) => {
    const url = `http://riprap/v1/resolve?name=${encodeURIComponent(name)}`;
    let text: string;
    let isFound: boolean;
    try {
      const response = await fetch(url, { unix: path, signal: AbortSignal.timeout(PATIENCE_MS) });
      text = (await response.text()).slice(0, ANSWER_CHARS_MAX);
      isFound = response.ok;
    } catch (cause) {
      throw new RiprapError(
        "unresolved",
        `the resolver at ${path} does not answer (${describeError(cause)}); start riprap-resolver.service`,
        { cause },
      );
    }
    if (!isFound) throw new RiprapError("unresolved", text.slice(0, 200));
    return parseAddresses(text);
  };
}

/** The resolver has no rights, so its answer is checked like a stranger's. */
function parseAddresses(text: string): readonly ResolvedAddress[] {
  const rows: unknown = JSON.parse(text);
  if (!Array.isArray(rows)) throw new RiprapError("unresolved", "the resolver's answer is no list");
  return rows.map((row: unknown) => {
    const { address, ttlMs } = (row ?? {}) as { address?: unknown; ttlMs?: unknown };
    if (typeof address === "string" && typeof ttlMs === "number" && Number.isFinite(ttlMs)) return { address, ttlMs };
    throw new RiprapError("unresolved", "the resolver's answer holds something else than an address and a TTL");
  });
}

function isHostName(name: string): boolean {
  return name.length > 0 && name.length <= NAME_CHARS_MAX && /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$/.test(name);
}

function refuse(status: number, message: string): Response {
  return new Response(message, { status });
}
