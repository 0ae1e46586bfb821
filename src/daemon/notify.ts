// Tells systemd how the daemon is (sd_notify(3)). Does nothing where nobody asked.

import type { Clock } from "../clock.ts";
import { describeError } from "../error.ts";
import { sendUnixDatagram } from "./libc.ts";
import type { Log } from "./log.ts";

export interface Notifier {
  ready(status: string): void;
  status(status: string): void;
  stopping(): void;
  /** Sends the watchdog's sign of life at a third of its interval, until the signal. */
  runWatchdog(signal: AbortSignal): Promise<void>;
}

export interface NotifierOptions {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly log: Log;
  readonly send?: (path: string, text: string) => void;
}

export function createNotifier({ environment, clock, log, send = sendUnixDatagram }: NotifierOptions): Notifier {
  const { NOTIFY_SOCKET: path, WATCHDOG_USEC: watchdog } = environment;
  const tell = (text: string): void => {
    if (path === undefined || path === "") return;
    try {
      send(path, text);
    } catch (thrown) {
      log.warn("systemd was not notified", { error: describeError(thrown) });
    }
  };
  return {
    ready: (status) => tell(`READY=1\nSTATUS=${status}`),
    status: (status) => tell(`STATUS=${status}`),
    stopping: () => tell("STOPPING=1"),
    async runWatchdog(signal) {
      const intervalMs = Number(watchdog) / 3000;
      if (path === undefined || !(intervalMs > 0)) return;
      while (!signal.aborted) {
        tell("WATCHDOG=1");
        await clock.sleep(intervalMs, signal).catch(() => undefined);
      }
    },
  };
}
