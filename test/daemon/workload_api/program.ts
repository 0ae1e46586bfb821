// The programs themselves where no module is: a configuration of their own, in a folder of the test's.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export const MAIN = join(import.meta.dir, "../../../src/main.ts");

export interface ProgramGround {
  /** Path of the configuration. */
  readonly config: string;
  readonly rulesDir: string;
  readonly workloadSocket: string;
}

export function prepareProgram(folder: string): ProgramGround {
  const settings = {
    stateDir: join(folder, "state"),
    rulesDir: join(folder, "rules"),
    controlSocket: join(folder, "control.sock"),
    workloadSocket: join(folder, "workload.sock"),
    device: join(folder, "no-device"),
  };
  const config = join(folder, "riprap.yaml");
  writeFileSync(config, JSON.stringify(settings));
  mkdirSync(settings.rulesDir);
  return { config, rulesDir: settings.rulesDir, workloadSocket: settings.workloadSocket };
}
