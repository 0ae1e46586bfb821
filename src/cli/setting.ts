// Where the configuration, the control socket and the state of this invocation are: options first, then the file, then the defaults.

import { existsSync } from "node:fs";
import { CONFIG_PATH, type DaemonConfig, loadConfig } from "../daemon/config.ts";
import { RiprapError } from "../error.ts";
import { type ControlClient, controlClient } from "./client.ts";
import type { Invocation } from "./invocation.ts";

/** The configuration of `--config` or of the usual place; a file that is asked for must be there. */
export function configOf(invocation: Invocation): DaemonConfig {
  const path = invocation.option("config");
  if (path !== undefined && !existsSync(path)) {
    throw new RiprapError("config_invalid", `Cannot read the configuration ${path}: there is no such file`);
  }
  return loadConfig(path ?? CONFIG_PATH);
}

/** The client of `--socket`, or of the configured control socket. */
export function clientOf(invocation: Invocation): ControlClient {
  return controlClient(invocation.option("socket") ?? configOf(invocation).controlSocket);
}

/** `--state-dir`, or the configured state directory. */
export function stateDirOf(invocation: Invocation): string {
  return invocation.option("state-dir") ?? configOf(invocation).stateDir;
}
