// ./run bench [SECTION …] [--rounds N] [--quick]: runs the benches, prints their tables, and leaves rows, tables and plots in .cache/bench/.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { costRows, measureCost } from "./cost.ts";
import { benchDataPath } from "./data_path.ts";
import { measureFootprint } from "./footprint.ts";
import { measureHandshakes } from "./handshake.ts";
import { measureIdentities } from "./identity.ts";
import { type BenchResult, writeSection } from "./section.ts";
import type { Row } from "./table.ts";

const OUTPUT = join(import.meta.dir, "../../.cache/bench");

interface Extent {
  readonly rounds: number;
  readonly quick: boolean;
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
      for (const { who, instructions } of await measureHandshakes())
        rows.push({ round, peer: who, metric: "handshake of both ends, instructions", value: instructions });
    return { rows, reference: "OpenSSL in memory, full", circumstances: {} };
  },
  async data_path({ rounds, quick }) {
    const options = {
      rounds,
      ...(quick ? { connections: 50, seconds: 2, mib: 16 } : { connections: 100, seconds: 3, mib: 32 }),
    };
    return { rows: await benchDataPath(options), reference: "riprap, resumed", circumstances: options };
  },
  async identity({ rounds, quick }) {
    const rates = quick ? [5, 20] : [5, 10, 20, 40];
    return { rows: await measureIdentities(rounds, rates), reference: "unmanaged", circumstances: { rates } };
  },
  async footprint({ rounds }) {
    return { rows: await measureFootprint(rounds, OUTPUT), reference: "bare Bun server", circumstances: {} };
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
