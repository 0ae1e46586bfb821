// Opens this node's CA for one use by a command, beside a daemon that may run.

import { existsSync } from "node:fs";
import { type NodeAuthority, openAuthority } from "../ca.ts";
import { systemClock } from "../clock.ts";
import { openStore, storePath } from "../store.ts";
import type { Option } from "./command.ts";

export const STATE_OPTION: Option = {
  name: "state-dir",
  value: "FOLDER",
  sentence: "Work on this state directory instead of the configured one.",
};

export function withAuthority<T>(stateDir: string, use: (authority: NodeAuthority) => T): T {
  const path = storePath(stateDir);
  // A node that was set up has a store; where there is none, the authority's refusal must not leave one behind.
  const store = openStore(existsSync(path) ? path : ":memory:");
  try {
    const authority = openAuthority({ stateDir, clock: systemClock, store });
    try {
      return use(authority);
    } finally {
      authority.close();
    }
  } finally {
    store.close();
  }
}
