// Whose rights the seal is made and opened with, when root works on the files of another user.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asStarter, mayDaemonOpen } from "../../../src/ca/key_store/privilege.ts";

/** nobody and nogroup, which every Debian has. */
const USER = 65_534;
const IS_ROOT = process.getuid?.() === 0 && readFileSync("/etc/passwd", "utf8").includes(`:${USER}:${USER}:`);
if (!IS_ROOT) process.stderr.write("skipped: work as another user needs root, and a user 65534\n");

let folder: string;
let file: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "riprap-privilege-"));
  chmodSync(folder, 0o755);
  file = join(folder, "device");
  writeFileSync(file, "");
});
afterAll(() => rmSync(folder, { recursive: true }));

function asNobody<T>(work: () => T): T {
  process.setegid?.(USER);
  process.seteuid?.(USER);
  try {
    return work();
  } finally {
    process.seteuid?.(0);
    process.setegid?.(0);
  }
}

const ids = () => [process.geteuid?.(), process.getegid?.(), ...(process.getgroups?.() ?? [])];

describe.skipIf(!IS_ROOT)("root's work as another user", () => {
  test.each([
    [0o660, USER, true],
    [0o660, 0, false],
    [0o640, USER, false],
    [0o600, USER, false],
    [0o666, 0, true],
  ])("mayDaemonOpen() asks with the user's own rights: mode %o of group %i gives %p", (mode, group, expected) => {
    chownSync(file, 0, group);
    chmodSync(file, mode);
    const before = asNobody(ids);
    expect(asNobody(() => [mayDaemonOpen(file), ids()])).toEqual([expected, before]);
    expect(process.geteuid?.()).toBe(0);
  });

  test("asStarter() is root for its work alone, also when that throws", () => {
    expect(asNobody(() => [asStarter(() => process.geteuid?.()), process.geteuid?.()])).toEqual([0, USER]);
    const thrown = () =>
      asStarter(() => {
        throw new Error("in the middle");
      });
    expect(asNobody(() => [expect(thrown).toThrow("in the middle"), process.geteuid?.()])).toEqual([undefined, USER]);
  });
});
