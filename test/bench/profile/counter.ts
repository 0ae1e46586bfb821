// The instructions that a guest runs, by address: QEMU's plugin of count.c, built, attached and asked.
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { exists } from "../../vm/lab/cache.ts";
import { loadPath } from "../load.ts";

const PLUGIN = loadPath("libcount.so");
const COMPILE = "gcc -std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -pthread -o".split(" ");
/** What is run here, and what has it. */
const PACKAGES = { gcc: "gcc", nm: "binutils", mkfifo: "coreutils", "qemu-system-x86_64": "qemu-system-x86" };

export interface BlockCount {
  readonly address: bigint;
  readonly instructions: number;
}

export interface InstructionCounter extends AsyncDisposable {
  /** What follows `-plugin` on QEMU's command line. */
  readonly plugin: string;
  /** Of all blocks that ran since the call before; the guest must be running. */
  take(): Promise<BlockCount[]>;
}

/** Why nothing can be counted here; undefined when it can. */
export function findObstacle(): string | undefined {
  for (const [program, debianPackage] of Object.entries(PACKAGES))
    if (Bun.which(program) === null) return `there is no ${program}; install Debian's ${debianPackage}`;
  const help = Bun.spawnSync(["qemu-system-x86_64", "-help"]).stdout.toString();
  return help.includes("-plugin ") ? undefined : "this QEMU takes no plugins; Debian 12's qemu-system-x86 does";
}

export async function openInstructionCounter(): Promise<InstructionCounter> {
  await mkdir(dirname(PLUGIN), { recursive: true });
  const compiler = Bun.spawnSync([...COMPILE, PLUGIN, join(import.meta.dir, "count.c")], { stderr: "pipe" });
  if (compiler.exitCode !== 0) throw new Error(`Cannot build the plugin: ${compiler.stderr.toString()}`);
  const folder = await mkdtemp(join(tmpdir(), "riprap-count-"));
  const control = join(folder, "control");
  if (Bun.spawnSync(["mkfifo", control]).exitCode !== 0) throw new Error(`Cannot make ${control}`);
  let taken = 0;
  return {
    plugin: `${PLUGIN},control=${control}`,
    async take() {
      const path = join(folder, `count-${taken++}`);
      await writeFile(control, `${path}\n`);
      while (!(await exists(path))) await Bun.sleep(20);
      return parseCounts(await readFile(path, "utf8"));
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

export function parseCounts(text: string): BlockCount[] {
  return [...text.matchAll(/^([0-9a-f]+) (\d+)$/gm)].map(([, address, count]) => ({
    address: BigInt(`0x${address}`),
    instructions: Number(count),
  }));
}
