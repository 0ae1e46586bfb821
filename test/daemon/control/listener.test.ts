// The control socket itself: its permissions, what may be in its place, and how it goes.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ControlListener, listenOnUnixSocket } from "../../../src/daemon/control/listener.ts";
import type { RiprapError } from "../../../src/error.ts";

let folder: string;
let open: ControlListener[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "riprap-control-"));
  open = [];
});

afterEach(async () => {
  for (const listener of open) await listener.close();
  rmSync(folder, { recursive: true, force: true });
});

async function listen(path: string): Promise<ControlListener> {
  const listener = await listenOnUnixSocket(path, () => new Response("here"));
  open.push(listener);
  return listener;
}

function refusal(path: string): Promise<RiprapError> {
  return listen(path).then(
    () => {
      throw new Error("it was not refused");
    },
    (thrown) => thrown as RiprapError,
  );
}

describe("listenOnUnixSocket", () => {
  test("listenOnUnixSocket() makes a socket of mode 0600 in a folder of 0755, and removes it at close", async () => {
    const path = join(folder, "run", "control.sock");
    const before = process.umask();
    const listener = await listen(path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(folder, "run")).mode & 0o777).toBe(0o755);
    expect(process.umask()).toBe(before);
    expect(await (await fetch("http://riprap/", { unix: path })).text()).toBe("here");
    await listener.close();
    expect(existsSync(path)).toBe(false);
  });

  test("listenOnUnixSocket() replaces a socket that nobody listens on", async () => {
    const path = join(folder, "control.sock");
    const child = Bun.spawnSync([
      "bun",
      "-e",
      `Bun.listen({ unix: ${JSON.stringify(path)}, socket: { data() {} } }); process.kill(process.pid, "SIGKILL")`,
    ]);
    expect(child.signalCode).toBe("SIGKILL");
    expect(existsSync(path)).toBe(true);
    await listen(path);
    expect(await (await fetch("http://riprap/", { unix: path })).text()).toBe("here");
  });

  test("listenOnUnixSocket() refuses when another daemon listens there, and leaves it alone", async () => {
    const path = join(folder, "control.sock");
    const other = createServer().listen(path);
    await new Promise((resolve) => other.once("listening", resolve));
    const thrown = await refusal(path);
    expect(thrown.code).toBe("control_socket");
    expect(thrown.message).toContain("another daemon listens there");
    expect(existsSync(path)).toBe(true);
    other.close();
  });

  test("listenOnUnixSocket() refuses a file or a link in its place", async () => {
    const path = join(folder, "control.sock");
    writeFileSync(path, "mine");
    expect((await refusal(path)).message).toContain("something else than a socket");
    const link = join(folder, "link.sock");
    symlinkSync(path, link);
    expect((await refusal(link)).message).toContain("something else than a socket");
  });

  test("listenOnUnixSocket() refuses a folder that others may write to", async () => {
    const shared = join(folder, "shared");
    mkdirSync(shared);
    chmodSync(shared, 0o777);
    expect((await refusal(join(shared, "control.sock"))).message).toContain("can be written by others");
  });

  test("listenOnUnixSocket() refuses a path that is too long for a socket", async () => {
    expect((await refusal(join(folder, "x".repeat(120)))).message).toContain("longer than 107 bytes");
  });
});
