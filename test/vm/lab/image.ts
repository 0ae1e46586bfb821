// Makes the read-only disks of a VM: ext4 images filled from a directory, without root and without mounting anything.
import { runHost } from "./cache.ts";

const BLOCK_BYTES = 4096;

/** Writes `file`, an ext4 file system without a journal that holds `directory`. */
export async function makeDisk(directory: string, file: string): Promise<void> {
  const [bytes = 0, inodes = 0] = await Promise.all([
    measure(["du", "-s", "--block-size=4096", directory]),
    measure(["du", "-s", "--inodes", directory]),
  ]);
  const count = inodes + 64;
  // 256 bytes an inode, a twentieth for directories and maps, and 8 MiB for the rest.
  const blocks = bytes + Math.ceil((count * 256) / BLOCK_BYTES) + Math.ceil(bytes / 20) + 2048;
  const features = "^has_journal,^metadata_csum,^metadata_csum_seed,^orphan_file,^resize_inode";
  await runHost([
    "mke2fs",
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    `${BLOCK_BYTES}`,
    "-m",
    "0",
    "-O",
    features,
    "-N",
    `${count}`,
    "-E",
    "root_owner=0:0",
    "-d",
    directory,
    file,
    `${blocks}`,
  ]);
}

async function measure(command: readonly string[]): Promise<number> {
  return Number.parseInt(await runHost(command), 10);
}
