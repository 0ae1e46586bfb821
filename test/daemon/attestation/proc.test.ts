// What /proc tells of real processes: that one runs, and that the program in it is still the same.

import { afterEach, describe, expect, test } from "bun:test";
import { copyFileSync, renameSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { readStat, tryReadProgram, tryReadRunning } from "../../../src/daemon/attestation/proc.ts";
import { scratchDirectories } from "../../scratch.ts";

const scratch = scratchDirectories();
const children: Bun.Subprocess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill(9);
    await child.exited;
  }
});

function run(...command: string[]): number {
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
  children.push(child);
  return child.pid;
}

async function untilIs(pid: number, name: string): Promise<void> {
  while (readStat(pid).name !== name) await Bun.sleep(2);
}

describe("tryReadProgram", () => {
  test("tryReadProgram() stays the same when the file is renamed or deleted under the program", async () => {
    const [path, other] = [join(scratch(), "program"), join(scratch(), "other")];
    copyFileSync("/bin/sleep", path);
    const pid = run(path, "60");
    await untilIs(pid, "program");
    const before = tryReadProgram(pid);
    expect(before).toMatch(/^\d+:\d+ [1-9]\d* [1-9]\d*$/);
    renameSync(path, other);
    expect(tryReadProgram(pid)).toBe(before);
    unlinkSync(other);
    expect(tryReadProgram(pid)).toBe(before);
  });

  test("tryReadProgram() is another one after an exec, of another file and of the same", async () => {
    const pid = run("/bin/sh", "-c", "sleep 0.3; exec /bin/sh -c 'sleep 0.3; exec sleep 60'");
    await untilIs(pid, "sh");
    const seen = new Set([tryReadProgram(pid)]);
    while (readStat(pid).name !== "sleep") {
      seen.add(tryReadProgram(pid));
      await Bun.sleep(5);
    }
    seen.add(tryReadProgram(pid));
    expect(seen.size).toBeGreaterThanOrEqual(3);
  });
});

describe("tryReadRunning", () => {
  test("tryReadRunning() knows a process by its start, and none that has ended", async () => {
    const pid = run("/bin/sleep", "60");
    expect(tryReadRunning(pid)).toBe(readStat(pid).startTimeNs);
    for (const child of children) {
      child.kill(9);
      await child.exited;
    }
    expect(tryReadRunning(pid)).toBeUndefined();
    expect(tryReadProgram(pid)).toBeUndefined();
  });
});
