// Says that something in the rules directory changed, once the writing has come to rest. Never reads it.

import { type FSWatcher, watch } from "node:fs";
import type { Clock } from "../../clock.ts";
import { describeError } from "../../error.ts";
import type { Log } from "../log.ts";

/** Editors and copies write in bursts. */
const DEBOUNCE_MS = 150;
const WATCH_AGAIN_MS = 2000;

export interface WatchOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly onChange: () => void;
}

/** Watches until the signal. A directory that is gone, or comes back, is a change too. */
export async function watchDirectory(path: string, options: WatchOptions, signal: AbortSignal): Promise<void> {
  const { clock, log, onChange } = options;
  let isFirst = true;
  let isMissing = false;
  while (!signal.aborted) {
    const ended = tryWatch(path, options, signal);
    if (typeof ended !== "string") {
      if (!isFirst) onChange();
      isMissing = false;
      await ended;
      if (!signal.aborted) onChange();
    } else if (!isMissing) {
      log.warn("the rules directory cannot be watched", { path, error: ended });
      isMissing = true;
    }
    isFirst = false;
    await clock.sleep(WATCH_AGAIN_MS, signal).catch(() => undefined);
  }
}

/** Resolves when watching ends: the signal, an error, or the directory itself being moved or removed. A sentence when it cannot begin. */
function tryWatch(path: string, { clock, onChange }: WatchOptions, signal: AbortSignal): Promise<void> | string {
  let watcher: FSWatcher;
  try {
    watcher = watch(path, { persistent: false });
  } catch (thrown) {
    return describeError(thrown);
  }
  return new Promise((resolve) => {
    let pending: AbortController | undefined;
    const finish = () => {
      pending?.abort();
      watcher.close();
      resolve();
    };
    watcher.on("change", (event, name) => {
      pending?.abort();
      pending = new AbortController();
      clock.sleep(DEBOUNCE_MS, pending.signal).then(onChange, () => undefined);
      // inotify names the directory itself when it is moved or removed.
      if (event === "rename" && (name === null || path.endsWith(`/${String(name)}`))) finish();
    });
    watcher.on("error", finish);
    signal.addEventListener("abort", finish, { once: true });
    if (signal.aborted) finish();
  });
}
