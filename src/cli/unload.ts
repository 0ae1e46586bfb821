// Unloads the module without cutting anyone: asks whether a daemon holds it, drains it, waits, and takes the drain back when refused.

import type { StatusView } from "../daemon/control/port.ts";
import { type DeviceFile, DeviceSession } from "../daemon/device.ts";
import type { KernelModule } from "../daemon/kernel.ts";
import { RiprapError } from "../error.ts";
import type { ControlClient } from "./client.ts";

export interface UnloadOptions {
  readonly module: Pick<KernelModule, "unload" | "status">;
  readonly client: Pick<ControlClient, "get" | "path">;
  /** Opens the module's device. */
  readonly open: () => DeviceFile;
  /** How long live sockets have to end. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Between two looks at what still holds the module. */
const LOOK_MS = 100;

/** Throws RiprapError `kernel_in_use` with how many sockets live; the module then manages new sockets as before. */
export async function unloadModule(options: UnloadOptions): Promise<void> {
  const { module, open } = options;
  if (!module.status().loaded) return module.unload();
  await refuseUnderDaemon(options.client);
  await withDevice(open, async (session) => {
    await session.ask("drain", { on: 1 });
    try {
      await waitUntilFree(options);
    } catch (thrown) {
      await session.ask("drain", { on: 0 });
      throw thrown;
    }
  });
  try {
    module.unload();
  } catch (thrown) {
    // Something took hold of it after the last look: it must not stay drained, with new sockets unmanaged.
    await withDevice(open, (session) => session.ask("drain", { on: 0 }));
    throw thrown;
  }
}

async function withDevice(open: () => DeviceFile, work: (session: DeviceSession) => Promise<unknown>): Promise<void> {
  const session = new DeviceSession(open());
  // A device that is lost rejects the question that is open, which is what the person hears of.
  const reading = session.run(() => {}).catch(() => undefined);
  try {
    await work(session);
  } finally {
    session.stop();
    await reading;
  }
}

async function refuseUnderDaemon(client: UnloadOptions["client"]): Promise<void> {
  let status: StatusView;
  try {
    status = await client.get<StatusView>("/v1/status");
  } catch (thrown) {
    if (thrown instanceof RiprapError && thrown.code === "unreachable") return;
    throw thrown;
  }
  const { live } = status.flows;
  const fact = `a daemon holds it (at ${client.path}), with ${live} live ${live === 1 ? "flow" : "flows"}`;
  throw new RiprapError(
    "kernel_in_use",
    `Cannot unload the module: ${fact}; stop the daemon first ("systemctl stop riprap"), then unload`,
  );
}

async function waitUntilFree({ module, timeoutMs, signal }: UnloadOptions): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    // One is our own open device.
    const held = (module.status().references ?? 0) - 1;
    if (held <= 0) return;
    if (performance.now() >= deadline || signal.aborted) {
      const fact = `${held} ${held === 1 ? "socket of a managed process lives" : "sockets of managed processes live"}`;
      throw new RiprapError(
        "kernel_in_use",
        `Cannot unload the module: ${fact}; stop their programs ("riprap flows --live" names them while the daemon runs), or wait longer with --drain-timeout`,
      );
    }
    await Bun.sleep(LOOK_MS);
  }
}
