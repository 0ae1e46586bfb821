// Asks whether anyone listens on a Unix socket, by connecting and hanging up at once.

import { connect } from "node:net";

export function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    // Only a refused or missing socket is surely dead; anything else (EACCES, EAGAIN of a full backlog) counts as alive.
    socket.once("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"),
    );
  });
}
