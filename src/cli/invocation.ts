// One parsed command line: the arguments and options of a command, by name.

import type { Command } from "./command.ts";
import { parseDuration } from "./duration.ts";
import { usageError } from "./usage.ts";

export class Invocation {
  readonly command: Command;
  readonly #arguments: ReadonlyMap<string, string>;
  readonly #options: ReadonlyMap<string, string>;

  constructor(
    command: Command,
    values: { arguments: ReadonlyMap<string, string>; options: ReadonlyMap<string, string> },
  ) {
    this.command = command;
    this.#arguments = values.arguments;
    this.#options = values.options;
  }

  /** `riprap kernel build`. */
  get title(): string {
    return ["riprap", ...this.command.words].join(" ");
  }

  /** An argument that the command requires. */
  argument(name: string): string {
    const value = this.#arguments.get(name);
    if (value === undefined) throw new TypeError(`${this.title} declares no required argument ${name}`);
    return value;
  }

  optionalArgument(name: string): string | undefined {
    return this.#arguments.get(name);
  }

  /** An option that the command requires. */
  required(name: string): string {
    const value = this.#options.get(name);
    if (value === undefined) throw new TypeError(`${this.title} declares no required option --${name}`);
    return value;
  }

  option(name: string): string | undefined {
    return this.#options.get(name);
  }

  has(name: string): boolean {
    return this.#options.has(name);
  }

  /** Milliseconds of a duration option, or `fallback`. Throws a usage error. */
  duration(name: string, fallback: number): number {
    const text = this.#options.get(name);
    if (text === undefined) return fallback;
    const milliseconds = parseDuration(text);
    if (milliseconds !== undefined) return milliseconds;
    throw usageError(
      `Cannot use --${name} "${text}": a duration is a number with ms, s, m or h, as in 30s`,
      this.title,
    );
  }

  /** A whole number option within its bounds, or `fallback`. Throws a usage error. */
  count(name: string, bound: { fallback: number; min: number; max: number }): number {
    const text = this.#options.get(name);
    if (text === undefined) return bound.fallback;
    return this.#integer(text, { what: `--${name}`, ...bound });
  }

  /** A PID argument. Throws a usage error. */
  pid(name: string): number {
    return this.#integer(this.argument(name), { what: name, min: 1, max: 4_194_304 });
  }

  #integer(text: string, bound: { what: string; min: number; max: number }): number {
    const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= bound.min && value <= bound.max) return value;
    throw usageError(
      `Cannot use ${bound.what} "${text}": it must be a whole number from ${bound.min} to ${bound.max}`,
      this.title,
    );
  }
}
