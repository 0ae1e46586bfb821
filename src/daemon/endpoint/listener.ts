// Serves a hono application over TCP: one GET a connection, over TLS or on loopback without. Everything that a stranger can take is bounded here.

import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from "node:tls";
import type { Clock } from "../../clock.ts";
import { describeError, RiprapError } from "../../error.ts";
import { HEAD_BYTES_MAX } from "../../federation/endpoint/http_head.ts";
import { type HttpRequest, readRequest } from "../../federation/endpoint/http_request.ts";
import { TLS_CIPHERS } from "../bundle/exchange.ts";
import type { Log } from "../log.ts";
import { writeResponse } from "./response.ts";

/** A bundle is fetched every few minutes by each node of each partner. */
export const CONNECTIONS_MAX = 128;
/** Of one address: a whole site may sit behind one. */
export const CONNECTIONS_PER_ADDRESS_MAX = 32;
/** A TLS handshake is a millisecond that the module's questions wait for. Past the burst, so many new ones a second. */
export const CONNECTION_BURST_MAX = 256;
const CONNECTIONS_PER_SECOND_MAX = 50;
/** From the connection to the last byte of the answer. */
export const CONNECTION_MS_MAX = 15_000;

export interface ListenAddress {
  readonly host: string;
  /** 0: any. */
  readonly port: number;
}

/** PEM, the chain leaf first. */
export interface ServerCertificate {
  readonly cert: string;
  readonly key: string;
}

export interface ListenerParts {
  /** For messages and the log. */
  readonly name: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined: without TLS. */
  readonly certificate?: ServerCertificate;
  handle(request: Request): Response | Promise<Response>;
}

export interface EndpointListener {
  readonly address: ListenAddress;
  /** Connections that are open. */
  readonly connections: number;
  /** New connections get this one. */
  renew(certificate: ServerCertificate): void;
  close(): Promise<void>;
}

/** Throws RiprapError `endpoint_listen`. */
export async function openListener(at: ListenAddress, parts: ListenerParts): Promise<EndpointListener> {
  const desk = new Desk(parts);
  const server = parts.certificate === undefined ? createServer() : createTlsServer(tlsOptions(parts.certificate));
  server.maxConnections = CONNECTIONS_MAX;
  server.on("connection", (socket: Socket) => desk.admit(socket));
  server.on(parts.certificate === undefined ? "connection" : "secureConnection", (socket: Socket) =>
    desk.serve(socket),
  );
  server.on("tlsClientError", (_error: Error, socket: TLSSocket | undefined) => socket?.destroy());
  await listen(server, at, parts.name);
  server.on("error", (thrown) =>
    parts.log.error("an endpoint failed", { name: parts.name, error: describeError(thrown) }),
  );
  const { address: host, port } = server.address() as { address: string; port: number };
  return {
    address: { host, port },
    get connections() {
      return desk.size;
    },
    renew: (certificate) => (server as TlsServer).setSecureContext(tlsOptions(certificate)),
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      desk.close();
      await closed;
    },
  };
}

function tlsOptions({ cert, key }: ServerCertificate) {
  return {
    cert,
    key,
    minVersion: "TLSv1.2" as const,
    ciphers: TLS_CIPHERS,
    honorCipherOrder: false,
    ALPNProtocols: ["http/1.1"],
    handshakeTimeout: CONNECTION_MS_MAX,
  };
}

function listen(server: Server | TlsServer, { host, port }: ListenAddress, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => {
      const message = `Cannot listen on ${host}:${port} for the ${name}: ${describeError(cause)}`;
      reject(new RiprapError("endpoint_listen", message, { cause }));
    });
    server.listen({ host, port }, () => {
      server.removeAllListeners("error");
      resolve();
    });
  });
}

/** The connections of one listener: let in, served once, sent away. */
class Desk {
  readonly #parts: ListenerParts;
  readonly #open = new Map<Socket, AbortController>();
  readonly #perAddress = new Map<string, number>();
  /** New connections that may come now, and since when more have been added. */
  #allowance = CONNECTION_BURST_MAX;
  #allowedAt: number;

  constructor(parts: ListenerParts) {
    this.#parts = parts;
    this.#allowedAt = parts.clock.now();
  }

  get size(): number {
    return this.#open.size;
  }

  /** Before a byte of it is read, its handshake's included. */
  admit(socket: Socket): void {
    socket.on("error", () => socket.destroy());
    const address = socket.remoteAddress ?? "";
    const count = (this.#perAddress.get(address) ?? 0) + 1;
    const isFull = this.#open.size >= CONNECTIONS_MAX || count > CONNECTIONS_PER_ADDRESS_MAX;
    if (isFull || !this.#takeAllowance()) return void socket.destroy();
    this.#perAddress.set(address, count);
    const timer = new AbortController();
    this.#open.set(socket, timer);
    socket.once("close", () => {
      timer.abort();
      this.#open.delete(socket);
      const left = (this.#perAddress.get(address) ?? 1) - 1;
      if (left > 0) this.#perAddress.set(address, left);
      else this.#perAddress.delete(address);
    });
    // The whole of it, not each part: whoever drips has the same time as everybody.
    this.#parts.clock.sleep(CONNECTION_MS_MAX, timer.signal).then(
      () => socket.destroy(),
      () => undefined,
    );
  }

  #takeAllowance(): boolean {
    const now = this.#parts.clock.now();
    // A clock that was set back gives nothing, and takes nothing.
    const fresh = (Math.max(0, now - this.#allowedAt) / 1000) * CONNECTIONS_PER_SECOND_MAX;
    this.#allowance = Math.min(CONNECTION_BURST_MAX, this.#allowance + fresh);
    this.#allowedAt = now;
    if (this.#allowance < 1) return false;
    this.#allowance -= 1;
    return true;
  }

  serve(socket: Socket): void {
    if (!this.#open.has(socket)) return void socket.destroy();
    let read = Buffer.alloc(0);
    socket.on("data", (bytes: Uint8Array) => {
      // After the head nothing is wanted, and nothing is kept.
      if (read.length >= HEAD_BYTES_MAX) return;
      read = Buffer.concat([read, bytes]).subarray(0, HEAD_BYTES_MAX);
      const reading = readRequest(read);
      if (reading.state === "more") return;
      read = Buffer.alloc(HEAD_BYTES_MAX);
      if (reading.state === "whole") void this.#answer(socket, reading.request);
      else {
        const headers = { "content-type": "text/plain", ...(reading.status === 405 ? { allow: "GET, HEAD" } : {}) };
        void this.#send(socket, new Response(`${reading.fact}\n`, { status: reading.status, headers }), true);
      }
    });
    // Who has asked may close its side and still listen.
    socket.on("end", () => {
      if (read.length < HEAD_BYTES_MAX) socket.destroy();
    });
  }

  close(): void {
    for (const socket of [...this.#open.keys()]) socket.destroy();
  }

  async #answer(socket: Socket, { method, target, host }: HttpRequest): Promise<void> {
    const { log, name } = this.#parts;
    try {
      const url = `http://${host === "" ? "localhost" : host}${target}`;
      const response = URL.canParse(url)
        ? await this.#parts.handle(new Request(url))
        : new Response("its target is no path\n", { status: 400 });
      // Not louder: whoever asks decides how often.
      log.debug("an endpoint was asked", {
        name,
        from: socket.remoteAddress,
        method,
        target: target.slice(0, 200),
        status: response.status,
      });
      await this.#send(socket, response, method === "GET");
    } catch (thrown) {
      log.error("an endpoint could not answer", { name, error: describeError(thrown) });
      await this.#send(socket, new Response("the daemon failed\n", { status: 500 }), true);
    }
  }

  async #send(socket: Socket, response: Response, hasBody: boolean): Promise<void> {
    const bytes = await writeResponse(response, { hasBody });
    if (!socket.destroyed) socket.end(bytes);
  }
}
