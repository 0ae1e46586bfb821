// The control socket: a Unix socket that only its owner may open. Access is the file's permissions, nothing else.

import { chmodSync, lstatSync, mkdirSync, statSync, unlinkSync } from "node:fs";
import { dirname } from "node:path";
import { describeError, RiprapError } from "../../error.ts";
import { isListening } from "./probe.ts";
import { APPLY_BYTES_MAX } from "./request.ts";

export interface ControlListener {
  readonly path: string;
  /** Stops accepting, ends every stream and removes the socket. */
  close(): Promise<void>;
}

/** sun_path has room for 108 bytes with its final zero. */
const PATH_BYTES_MAX = 107;
/** A follower may hear nothing for hours. Kept apart because Bun's types deny that the option works on Unix sockets: it does. */
const NO_IDLE_TIMEOUT: object = { idleTimeout: 0 };

export interface ListenOptions {
  /** Permission bits of the socket; 0600 when not given. */
  readonly mode?: number;
}

/**
 * Serves `handle` on `path` (0600 unless said otherwise), making its folder (0755) when missing. Throws RiprapError `control_socket` when another
 * daemon listens there, when something else than a socket is there, or when others could replace the socket.
 */
export async function listenOnUnixSocket(
  path: string,
  handle: (request: Request) => Response | Promise<Response>,
  { mode = 0o600 }: ListenOptions = {},
): Promise<ControlListener> {
  await claimSocketPath(path);
  // The socket must not be open to others even for the moment between bind and chmod.
  const umask = process.umask(0o177);
  let server: Bun.Server<undefined>;
  try {
    server = Bun.serve({
      unix: path,
      ...NO_IDLE_TIMEOUT,
      // The app bounds bodies itself, with a sentence; this is the backstop.
      maxRequestBodySize: 2 * APPLY_BYTES_MAX,
      fetch: handle,
    });
  } catch (cause) {
    throw failure(path, describeError(cause), cause);
  } finally {
    process.umask(umask);
  }
  chmodSync(path, mode);
  return {
    path,
    async close() {
      await server.stop(true);
      removeIfSocket(path);
    },
  };
}

/** Makes the folder of a socket and takes a dead socket out of the way. Throws RiprapError `control_socket`. */
export async function claimSocketPath(path: string): Promise<void> {
  if (Buffer.byteLength(path) > PATH_BYTES_MAX)
    throw failure(path, `the path is longer than ${PATH_BYTES_MAX} bytes; choose a shorter one`);
  prepareFolder(path);
  await removeStaleSocket(path);
}

/** The folder must be ours (or root's), and no one else may put another socket in its place. */
function prepareFolder(path: string): void {
  const folder = dirname(path);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o755 });
  } catch (cause) {
    throw failure(
      path,
      `its folder cannot be made (${describeError(cause)}); run as root, or choose another place`,
      cause,
    );
  }
  const { uid, mode } = statSync(folder);
  if (uid !== process.getuid?.() && uid !== 0)
    throw failure(path, `${folder} belongs to uid ${uid}; it must belong to root or to the daemon's user`);
  // A sticky folder (/tmp) lets no one else remove or rename what is ours.
  if ((mode & 0o022) !== 0 && (mode & 0o1000) === 0) {
    throw failure(
      path,
      `${folder} can be written by others, who could put their own socket there; chmod go-w ${folder}`,
    );
  }
}

async function removeStaleSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw failure(path, "there is something else than a socket; remove it");
  if (await isListening(path)) throw failure(path, "another daemon listens there; stop it first");
  unlinkSync(path);
}

export function removeIfSocket(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) unlinkSync(path);
}

function failure(path: string, fact: string, cause?: unknown): RiprapError {
  return new RiprapError("control_socket", `Cannot open the socket ${path}: ${fact}`, { cause });
}
