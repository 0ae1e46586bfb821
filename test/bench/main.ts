// ./run bench [SECTION …] [--rounds N] [--quick]: runs the benches, prints their tables, and leaves rows, tables and plots in .cache/bench/.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { costRows, measureCost } from "./cost.ts";
import { benchDataPath, type DataPathOptions } from "./data_path.ts";
import { benchFleet } from "./fleet.ts";
import { measureFootprint } from "./footprint.ts";
import { measureConnections } from "./handshake.ts";
import { measureIdentities } from "./identity.ts";
import { benchIssuance } from "./issuance.ts";
import { measureKernelFootprint } from "./kernel_footprint.ts";
import { measureProfiles } from "./profile.ts";
import { benchRevoke } from "./revoke.ts";
import { type BenchResult, writeSection } from "./section.ts";
import type { Row } from "./table.ts";

const OUTPUT = join(import.meta.dir, "../../.cache/bench");

interface Extent {
  readonly rounds: number;
  readonly quick: boolean;
}

const SHORT = { connections: 50, seconds: 2, mib: 16 };
const LONG = { connections: 100, seconds: 3, mib: 32 };

async function dataPath(options: DataPathOptions): Promise<BenchResult> {
  return { rows: await benchDataPath(options), reference: "riprap, resumed", circumstances: { ...options } };
}

/** In the order in which they run when none is named. */
const SECTIONS: Readonly<Record<string, (extent: Extent) => Promise<BenchResult>>> = {
  async cost({ quick }) {
    const sizes = quick ? [10, 1000] : [10, 1000, 100_000];
    return { rows: costRows(await measureCost(sizes)), reference: "unmanaged, no module", circumstances: { sizes } };
  },
  async handshake({ rounds }) {
    const rows: Row[] = [];
    for (let round = 1; round <= Math.min(rounds, 2); round++)
      for (const { metric, who, instructions } of await measureConnections())
        rows.push({ round, peer: who, metric: `${metric}, both ends, instructions`, value: instructions });
    return { rows, reference: "OpenSSL in memory, full", circumstances: {} };
  },
  issuance: ({ rounds, quick }) =>
    benchIssuance({ rounds: Math.min(rounds, 3), seconds: quick ? 1 : 3, identities: 10_000 }),
  /** As the clock on the wall has it: two processors, and whatever else the machine does. */
  data_path: ({ rounds, quick }) => dataPath({ rounds, ...(quick ? SHORT : LONG), countInstructions: false }),
  /** The same in instructions of one processor: a second is 10^9 of them. */
  data_path_icount: ({ rounds, quick }) =>
    dataPath({ rounds: Math.min(rounds, 2), ...(quick ? SHORT : LONG), seconds: 1, countInstructions: true }),
  async profile() {
    return { rows: await measureProfiles(), reference: "riprap", circumstances: {} };
  },
  async identity({ rounds, quick }) {
    const rates = quick ? [5, 20] : [5, 10, 20, 40];
    return { rows: await measureIdentities(rounds, rates), reference: "unmanaged", circumstances: { rates } };
  },
  fleet: ({ rounds, quick }) =>
    benchFleet({
      nodes: quick ? 100 : 1000,
      whole: quick ? 10 : 50,
      services: quick ? 1000 : 10_000,
      rules: quick ? 100 : 1000,
      joins: quick ? 50 : 1000,
      idleSeconds: quick ? 20 : 120,
      rounds,
    }),
  revoke: ({ rounds }) => benchRevoke({ rounds }),
  async footprint({ rounds }) {
    return { rows: await measureFootprint(rounds, OUTPUT), reference: "bare Bun server", circumstances: {} };
  },
  async kernel_footprint() {
    return { rows: await measureKernelFootprint(), reference: "no identity", circumstances: {} };
  },
};

const { values, positionals } = parseArgs({
  args: Bun.argv.slice(2),
  allowPositionals: true,
  options: { rounds: { type: "string", default: "5" }, quick: { type: "boolean", default: false } },
});
const rounds = Number(values.rounds);
if (!Number.isSafeInteger(rounds) || rounds < 1 || rounds > 100) throw new RangeError("--rounds takes 1 to 100");
for (const name of positionals.length > 0 ? positionals : Object.keys(SECTIONS)) {
  const section = SECTIONS[name];
  if (section === undefined) throw new RangeError(`no section ${name}; there are ${Object.keys(SECTIONS).join(", ")}`);
  const result = await section({ rounds, quick: values.quick });
  process.stdout.write(`\n${name}\n${await writeSection(OUTPUT, name, result)}\n`);
}
process.stdout.write(`\nraw rows, tables and plots: ${OUTPUT}\n`);
