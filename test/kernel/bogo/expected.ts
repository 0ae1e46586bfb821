// What BoringSSL's test suite is foreseen to make of the engine, as bogo/expected.json has it.
import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface Expected {
  /** Patterns of tests that are not run at all, to the reason. */
  readonly disabled: Record<string, string>;
  /** What the shim gives up at, to how many tests it costs; each class is a row of docs/tls13.md. */
  readonly unimplemented: readonly { class: string; cases: Record<string, number> }[];
  /** Each with the reason that docs/tls13.md tells at length. */
  readonly failures: readonly { class: string; tests: string[] }[];
  readonly passed: number;
}

export function readExpected(): Expected {
  return JSON.parse(readFileSync(join(import.meta.dir, "expected.json"), "utf8")) as Expected;
}
