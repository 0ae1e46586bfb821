// Reads the module's source from kernel/ while the program is bundled, so that the binary holds it. Runs in no built binary.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** What a build needs and nothing that a build leaves behind. */
const SOURCE = /^(Kbuild|Makefile|LICENSE|[a-z0-9_]+\.[ch])$/;
const LEFT_BEHIND = /\.mod\.c$|^riprap_probe\.h$/;

/** Path below kernel/ → text, sorted by path. */
export function readKernelSource(): Record<string, string> {
  const root = join(import.meta.dir, "../../../kernel");
  const files = readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && SOURCE.test(entry.name) && !LEFT_BEHIND.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .sort();
  return Object.fromEntries(files.map((path) => [path, readFileSync(join(root, path), "utf8")]));
}
