// The disk that puts systemd into a VM, above the disk of programs: what its package needs and the other disk does not hold.
import { mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { cached, digestOf } from "./cache.ts";
import { openPackages } from "./debian.ts";
import { makeDisk } from "./image.ts";
import { LEFT_OUT, mergeUsr, ROOT_PACKAGES, unpack } from "./root.ts";

const PACKAGES = ["systemd"];

/** What the VM has no part for (terminals that people log in at, D-Bus), and would be waited for at every boot. */
const MASKED = ["getty.target", "systemd-logind.service"];

const FILES: Record<string, string> = {
  // Without one, this would be the first boot of a new machine, which enables whatever the package would have enabled.
  "etc/machine-id": "7269707261706c61626f7261746f7279\n",
};

/** Path of the disk. */
export async function prepareSystemdDisk(): Promise<string> {
  const packages = await openPackages();
  const below = new Set(await packages.closure(ROOT_PACKAGES));
  const isWanted = (name: string) => !below.has(name) && !LEFT_OUT.test(name);
  const names = (await packages.closure(PACKAGES)).filter(isWanted);
  const directory = await cached("systemd", digestOf(await readFile(import.meta.path), ...names), async (fresh) => {
    const tree = join(fresh, "tree");
    await mergeUsr(tree);
    for (const file of await packages.downloadClosure(PACKAGES)) if (isWanted(basename(file))) await unpack(file, tree);
    const units = join(tree, "etc/systemd/system");
    await mkdir(units, { recursive: true });
    for (const name of MASKED) await symlink("/dev/null", join(units, name));
    await symlink("/lib/systemd/system/multi-user.target", join(units, "default.target"));
    for (const [path, text] of Object.entries(FILES)) await writeFile(join(tree, path), text);
    await makeDisk(tree, join(fresh, "systemd.ext4"));
    await rm(tree, { recursive: true });
  });
  return join(directory, "systemd.ext4");
}
