// ./run bench [--rounds N] [--quick]: runs the benches and prints their tables; raw rows go to .cache/bench/.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { benchDataPath } from "./data_path.ts";

const OUTPUT = join(import.meta.dir, "../../.cache/bench");

const { values } = parseArgs({
  args: Bun.argv.slice(2),
  options: { rounds: { type: "string", default: "5" }, quick: { type: "boolean", default: false } },
});
const rounds = Number(values.rounds);
if (!Number.isSafeInteger(rounds) || rounds < 1 || rounds > 100) throw new RangeError("--rounds takes 1 to 100");

const size = values.quick ? { connections: 50, seconds: 2, mib: 16 } : { connections: 100, seconds: 3, mib: 32 };
const table = await benchDataPath({ rounds, ...size, output: OUTPUT });
process.stdout.write(`\n${table}\n\nraw rows: ${join(OUTPUT, "data_path.json")}\n`);
