// The Workload API's Unix socket: open to everybody, because it is the kernel that says who calls. Lets in who may, and hands the connection on.

import { chmodSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import type { Clock } from "../../clock.ts";
import { describeError, RiprapError } from "../../error.ts";
import { claimSocketPath, removeIfSocket } from "../control/listener.ts";
import type { Log } from "../log.ts";
import { type Caller, openCaller, type ProcessReports, peerCredentials } from "./caller.ts";
import type { CallerLimits } from "./limit.ts";

export interface ListenerParts {
  readonly path: string;
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
  close(): Promise<void>;
}

/** Throws RiprapError `workload_socket` or `control_socket` when the path cannot be had. */
export async function listenForWorkloads(parts: ListenerParts): Promise<Listener> {
  const { path } = parts;
  await claimSocketPath(path);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    // A connection that breaks is the caller's affair.
    socket.on("error", () => socket.destroy());
    admit(socket, parts);
  });
  await listen(server, path);
  chmodSync(path, 0o666);
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
      removeIfSocket(path);
    },
  };
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => {
      const message = `Cannot open the socket ${path}: ${describeError(cause)}`;
      reject(new RiprapError("workload_socket", message, { cause }));
    });
    server.listen(path, resolve);
  });
}

function admit(socket: Socket, { clock, limits, log, reports, take, gone }: ListenerParts): void {
  const fd = descriptorOf(socket);
  let caller: Caller;
  try {
    if (fd === undefined) throw new RiprapError("not_found", "Cannot tell who calls: the connection has ended");
    // Before anything is done for it: a user who connects without end is to cost next to nothing.
    if (limits.isSpent(peerCredentials(fd).uid, clock.now())) {
      socket.destroy();
      return;
    }
    caller = openCaller(fd, reports);
  } catch (thrown) {
    log.debug("a caller of the Workload API cannot be named", { error: describeError(thrown) });
    socket.destroy();
    return;
  }
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

/** node:net has no word for it. */
function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: unknown } };
  return typeof handle?.fd === "number" && handle.fd >= 0 ? handle.fd : undefined;
}
