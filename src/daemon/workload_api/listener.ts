// The Workload API's sockets, a Unix one and where it is wanted a loopback TCP one: open to everybody, because it is the kernel that says who calls. Hands connections on.

import { chmodSync } from "node:fs";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import type { Clock } from "../../clock.ts";
import { describeError, RiprapError } from "../../error.ts";
import { claimSocketPath, removeIfSocket } from "../control/listener.ts";
import type { Log } from "../log.ts";
import { type Caller, openCaller, openTcpCaller, type ProcessReports, peerCredentials } from "./caller.ts";
import type { CallerLimits } from "./limit.ts";
import { findTcpSocket } from "./tcp_caller.ts";

export interface ListenerParts {
  readonly path: string;
  /** A loopback address. */
  readonly tcp?: { readonly host: string; readonly port: number } | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: CallerLimits;
  readonly reports: ProcessReports;
  /** From now on it speaks on the connection; the caller is closed when the connection is. */
  take(socket: Socket, caller: Caller): void;
  /** A connection that was taken has ended. */
  gone(caller: Caller): void;
}

export interface Listener {
  /** Of TCP. */
  readonly port: number | undefined;
  close(): Promise<void>;
}

/** Throws RiprapError `workload_socket` or `control_socket` when the path or the port cannot be had. */
export async function listenForWorkloads(parts: ListenerParts): Promise<Listener> {
  const { path, tcp } = parts;
  await claimSocketPath(path);
  const sockets = new Set<Socket>();
  const serve = (admit: (socket: Socket, parts: ListenerParts) => void | Promise<void>) =>
    createServer((socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      // A connection that breaks is the caller's affair.
      socket.on("error", () => socket.destroy());
      void admit(socket, parts);
    });
  const servers = [serve(admitLocal)];
  const close = async () => {
    const closed = servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    for (const socket of sockets) socket.destroy();
    await Promise.all(closed);
    removeIfSocket(path);
  };
  await listen(servers[0] as Server, { path });
  chmodSync(path, 0o666);
  if (tcp === undefined) return { port: undefined, close };
  const server = serve(admitTcp);
  try {
    await listen(server, tcp);
  } catch (thrown) {
    await close();
    throw thrown;
  }
  servers.push(server);
  return { port: (server.address() as AddressInfo).port, close };
}

type Place = { readonly path: string } | { readonly host: string; readonly port: number };

function listen(server: Server, place: Place): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => {
      const where = "path" in place ? `socket ${place.path}` : `port ${place.host}:${place.port}`;
      const message = `Cannot open the ${where}: ${describeError(cause)}`;
      reject(new RiprapError("workload_socket", message, { cause }));
    });
    server.listen(place, resolve);
  });
}

function admitLocal(socket: Socket, parts: ListenerParts): void {
  const { clock, limits, reports } = parts;
  try {
    const fd = descriptorOf(socket);
    if (fd === undefined) throw new RiprapError("not_found", "Cannot tell who calls: the connection has ended");
    // Before anything is done for it: a user who connects without end is to cost next to nothing.
    if (limits.isSpent(peerCredentials(fd).uid, clock.now())) socket.destroy();
    else admit(socket, openCaller(fd, reports), parts);
  } catch (thrown) {
    refuse(socket, thrown, parts);
  }
}

async function admitTcp(socket: Socket, parts: ListenerParts): Promise<void> {
  const { clock, limits, reports } = parts;
  try {
    const peer = { address: socket.remoteAddress ?? "", port: socket.remotePort ?? 0 };
    const end = findTcpSocket(peer, { address: socket.localAddress ?? "", port: socket.localPort ?? 0 });
    // To look for the process is work: one look a connection, and those of a user count together.
    const look = limits.isSpent(end.uid, clock.now()) ? undefined : limits.look(end.uid, clock.now());
    if (look === undefined) {
      socket.destroy();
      return;
    }
    const caller = await openTcpCaller(end, reports).finally(look);
    if (socket.destroyed) caller.close();
    else admit(socket, caller, parts);
  } catch (thrown) {
    refuse(socket, thrown, parts);
  }
}

function admit(socket: Socket, caller: Caller, { clock, limits, log, take, gone }: ListenerParts): void {
  const release = limits.connect(caller, clock.now());
  socket.once("close", () => {
    release?.();
    caller.close();
    if (release !== undefined) gone(caller);
  });
  if (release !== undefined) {
    take(socket, caller);
    return;
  }
  log.debug("a caller of the Workload API has too many connections", { pid: caller.pid, uid: caller.uid });
  socket.destroy();
}

function refuse(socket: Socket, thrown: unknown, { log }: ListenerParts): void {
  log.debug("a caller of the Workload API cannot be named", { error: describeError(thrown) });
  socket.destroy();
}

/** node:net has no word for it. */
function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: unknown } };
  return typeof handle?.fd === "number" && handle.fd >= 0 ? handle.fd : undefined;
}
