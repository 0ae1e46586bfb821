// Speaks to a SPIFFE Workload API as any workload does: one call of gRPC over HTTP/2. Knows that standard's endpoint, and no daemon of ours.

import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from "node:http2";
import { connect, isIP, type Socket } from "node:net";
import { describeError, RiprapError } from "../error.ts";

export const ENDPOINT_VARIABLE = "SPIFFE_ENDPOINT_SOCKET";
/** An answer holds a chain and bundles of as many trust domains as there are. */
const MESSAGE_BYTES_MAX = 16 << 20;
const CONNECT_MS = 10_000;
/** gRPC's words for what a caller of the Workload API may hear, by their numbers. */
const CODES: Readonly<Record<string, string>> = {
  "3": "invalid_argument",
  "7": "permission_denied",
  "12": "unimplemented",
  "14": "unavailable",
};

export type Endpoint = { readonly path: string } | { readonly host: string; readonly port: number };

/** `unix:///absolute/path` or `tcp://ADDRESS:PORT` (Workload Endpoint section 4). RiprapError `endpoint_invalid`. */
export function parseEndpoint(text: string): Endpoint {
  const path = /^unix:(?:\/\/)?(\/[^?#]+)$/.exec(text)?.[1];
  if (path !== undefined && !path.startsWith("//")) return { path };
  const [, host = "", port = ""] = /^tcp:\/\/(\[[0-9a-fA-F:.]+\]|[0-9.]+):([0-9]{1,5})$/.exec(text) ?? [];
  const address = host.replace(/^\[(.*)\]$/, "$1");
  if (isIP(address) !== 0 && Number(port) >= 1 && Number(port) <= 65_535) return { host: address, port: Number(port) };
  const remedy = "give unix:///path/of/the.sock or tcp://127.0.0.1:8081, without anything else";
  throw new RiprapError("endpoint_invalid", `Cannot use the endpoint ${JSON.stringify(text.slice(0, 200))}: ${remedy}`);
}

/**
 * The messages of one call, until the server or the signal ends it. Throws RiprapError `endpoint_unreachable`, `permission_denied`, `unavailable`,
 * `invalid_argument`, `unimplemented` or `workload_api_failed`.
 */
export async function* callWorkloadApi(
  endpoint: Endpoint,
  { method, signal, request = new Uint8Array() }: { method: string; signal: AbortSignal; request?: Uint8Array },
): AsyncGenerator<Buffer> {
  const socket = await open(endpoint, signal);
  const session = connectHttp2("http://localhost", { createConnection: () => socket });
  // What breaks the session ends its stream, which says so.
  session.on("error", () => undefined);
  const stop = () => session.destroy();
  signal.addEventListener("abort", stop, { once: true });
  try {
    yield* messagesOf(session, { method, request });
  } catch (thrown) {
    if (signal.aborted) return;
    throw thrown instanceof RiprapError ? thrown : failure("workload_api_failed", describeError(thrown));
  } finally {
    signal.removeEventListener("abort", stop);
    session.destroy();
    socket.destroy();
  }
}

function open(endpoint: Endpoint, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = "path" in endpoint ? connect(endpoint.path) : connect(endpoint.port, endpoint.host);
    const give = (cause: unknown) => {
      socket.destroy();
      const place = "path" in endpoint ? endpoint.path : `${endpoint.host}:${endpoint.port}`;
      const fact = `${describeError(cause)}; is the daemon running, and does it serve the Workload API there?`;
      reject(new RiprapError("endpoint_unreachable", `Cannot reach the Workload API at ${place}: ${fact}`, { cause }));
    };
    socket.setTimeout(CONNECT_MS, () => give(new Error("no answer")));
    socket.once("error", give);
    signal.addEventListener("abort", () => give(new Error("interrupted")), { once: true });
    socket.once("connect", () => {
      socket.setTimeout(0);
      socket.off("error", give);
      socket.on("error", () => undefined);
      resolve(socket);
    });
  });
}

interface Status {
  code: string | undefined;
  text: string;
}

async function* messagesOf(
  session: ClientHttp2Session,
  { method, request }: { readonly method: string; readonly request: Uint8Array },
): AsyncGenerator<Buffer> {
  const stream = session.request({
    ":method": "POST",
    ":path": `/SpiffeWorkloadAPI/${method}`,
    "content-type": "application/grpc",
    te: "trailers",
    "workload.spiffe.io": "true",
  });
  const status: Status = { code: undefined, text: "" };
  const note = (headers: Readonly<Record<string, unknown>>) => {
    if (headers["grpc-status"] === undefined) return;
    status.code = String(headers["grpc-status"]);
    status.text = decodeText(String(headers["grpc-message"] ?? ""));
  };
  stream.on("response", note);
  stream.on("trailers", note);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(request.length, 1);
  stream.end(Buffer.concat([head, request]));
  yield* framesOf(stream);
  if (status.code === "0") return;
  if (status.code === undefined) throw failure("unavailable", "the connection ended");
  throw failure(CODES[status.code] ?? "workload_api_failed", status.text);
}

/** Each message of gRPC has a byte that says whether it is compressed, and four of length. */
async function* framesOf(stream: ClientHttp2Stream): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  for await (const chunk of stream) {
    rest = Buffer.concat([rest, chunk as Buffer]);
    while (rest.length >= 5) {
      const length = rest.readUInt32BE(1);
      if (rest[0] !== 0) throw failure("workload_api_failed", "an answer is compressed, which was not asked for");
      if (length > MESSAGE_BYTES_MAX)
        throw failure("workload_api_failed", `an answer is larger than ${MESSAGE_BYTES_MAX} bytes`);
      if (rest.length < 5 + length) break;
      yield rest.subarray(5, 5 + length);
      rest = rest.subarray(5 + length);
    }
  }
}

/** Percent-encoded (the gRPC protocol's grpc-message). */
function decodeText(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function failure(code: string, fact: string): RiprapError {
  return new RiprapError(code, `Cannot get an SVID from the Workload API: ${fact}`);
}
