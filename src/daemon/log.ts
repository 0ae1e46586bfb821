// Events as lines of JSON: constant text, facts as named fields. Never a key, a token or a certificate's bytes.

import type { Clock } from "../clock.ts";
import type { LogLevel } from "./config.ts";

export type LogFields = Readonly<Record<string, string | number | bigint | boolean | undefined>>;

export interface Log {
  /** Someone must act. */
  error(event: string, fields?: LogFields): void;
  /** Degraded, and how. */
  warn(event: string, fields?: LogFields): void;
  /** The life of the node. */
  info(event: string, fields?: LogFields): void;
  /** One flow, one process. */
  debug(event: string, fields?: LogFields): void;
}

const SEVERITY: Readonly<Record<LogLevel, number>> = { error: 0, warn: 1, info: 2, debug: 3 };
const VALUE_CHARACTERS_MAX = 2048; // a hostile argv must not fill the disk

export interface LogOptions {
  readonly level: LogLevel;
  readonly clock: Clock;
  readonly write: (line: string) => void;
}

export function createLog({ level, clock, write }: LogOptions): Log {
  const at =
    (severity: LogLevel) =>
    (event: string, fields: LogFields = {}): void => {
      if (SEVERITY[severity] > SEVERITY[level]) return;
      const line: Record<string, unknown> = { time: new Date(clock.now()).toISOString(), level: severity, event };
      for (const [name, value] of Object.entries(fields)) if (value !== undefined) line[name] = bounded(value);
      write(`${JSON.stringify(line)}\n`);
    };
  return { error: at("error"), warn: at("warn"), info: at("info"), debug: at("debug") };
}

function bounded(value: string | number | bigint | boolean): string | number | boolean {
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "string" || value.length <= VALUE_CHARACTERS_MAX) return value;
  return `${value.slice(0, VALUE_CHARACTERS_MAX)}…`;
}
