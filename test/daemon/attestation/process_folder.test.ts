// What an open folder of /proc shows of a real process: its own exec and credentials at once, and nothing once it has ended.

import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { readStat, readStatus, tryReadProgram } from "../../../src/daemon/attestation/proc.ts";
import { ProcessFolder } from "../../../src/daemon/attestation/process_folder.ts";
import { RiprapError } from "../../../src/error.ts";

const PYTHON = "/usr/bin/python3";
const children: Bun.Subprocess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill(9);
    await child.exited;
  }
});

function run(...command: string[]): Bun.Subprocess<"pipe", "ignore", "inherit"> {
  const child = Bun.spawn(command, { stdin: "pipe", stdout: "ignore", stderr: "inherit" });
  children.push(child);
  return child;
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await Bun.sleep(2);
}

/** It sleeps in a system call of its own. In the exec before, it has the name already and its arguments not yet. */
function isWaiting(pid: number, name: string): boolean {
  return readFileSync(`/proc/${pid}/stat`, "utf8").includes(`(${name}) S `);
}

/** What this process holds open of another's folder, in order. Its other descriptors come and go: those of what other tests left behind. */
function openInside(pid: number): string[] {
  const target = (descriptor: string): string => {
    try {
      return readlinkSync(`/proc/self/fd/${descriptor}`);
    } catch {
      return "";
    }
  };
  const paths = readdirSync("/proc/self/fd").map(target);
  return paths.filter((path) => `${path}/`.startsWith(`/proc/${pid}/`)).sort();
}

describe("ProcessFolder", () => {
  test("open() shows what /proc shows by the number", async () => {
    const { pid } = run("/bin/sleep", "60");
    await until(() => isWaiting(pid, "sleep"));
    const folder = ProcessFolder.open(pid);
    expect(folder.stat()).toEqual(readStat(pid));
    expect(folder.status()).toEqual(readStatus(pid));
    expect(folder.owner()).toMatchObject({ uid: readStatus(pid).uid, gid: readStatus(pid).gid });
    expect(folder.exe()).toBe(readlinkSync(`/proc/${pid}/exe`));
    expect(folder.tryRead("cmdline", 4096)).toBe("/bin/sleep\x0060\0");
    expect(folder.tryRead("cmdline", 4)).toBe("/bin");
    // Where code and stack lie; devices and inodes are written otherwise here.
    const layoutOf = (program = "") => program.split(" ").slice(1);
    expect(layoutOf(folder.program(folder.stat()))).toEqual(layoutOf(tryReadProgram(pid)));
    folder.close();
  });

  test("program() is another one after an exec of the very same file", async () => {
    const child = run("/bin/sh", "-c", "read line; exec /bin/sh -c 'read line'");
    const { pid } = child;
    await until(() => isWaiting(pid, "sh"));
    const folder = ProcessFolder.open(pid);
    const before = folder.program(folder.stat());
    expect(folder.program(folder.stat())).toBe(before);
    const [exe, facts] = [folder.exe(), folder.exeFacts()?.identity ?? ""];
    child.stdin.write("go\n");
    child.stdin.flush();
    await until(() => folder.program(folder.stat()) !== before);
    expect(folder.exe()).toBe(exe);
    expect(folder.exeFacts()?.identity).toBe(facts);
    folder.close();
  });

  test.skipIf(!existsSync(PYTHON) || process.getuid?.() !== 0)(
    "owner() is the effective user and group of now (skipped where there is no python3, or for others than root)",
    async () => {
      const code = "import os, sys; sys.stdin.readline(); os.setegid(65533); os.seteuid(65534); sys.stdin.readline()";
      const child = run(PYTHON, "-c", code);
      const folder = ProcessFolder.open(child.pid);
      expect(folder.owner()).toMatchObject({ uid: 0, gid: 0 });
      child.stdin.write("go\n");
      child.stdin.flush();
      await until(() => folder.owner().uid !== 0);
      expect(folder.owner()).toMatchObject({ uid: 65_534, gid: 65_533 });
      expect(folder.status()).toMatchObject({ uid: 65_534, gid: 65_533 });
      folder.close();
    },
  );

  test("owner() is the process's own when it may not be dumped, and its other files are root's", async () => {
    const script = "import ctypes, time; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); time.sleep(60)"; // PR_SET_DUMPABLE
    const { pid } = run("/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", PYTHON, "-c", script);
    await until(() => readStat(pid).name === "python3" && statSync(`/proc/${pid}/status`).uid === 0);
    const folder = ProcessFolder.open(pid);
    expect(folder.owner()).toMatchObject({ uid: 65534, gid: 65534 });
    folder.close();
  });

  test("stat() and status() show nothing of a process that has ended, whoever has its number by then", async () => {
    const child = run("/bin/sleep", "60");
    const folder = ProcessFolder.open(child.pid);
    expect(folder.status().uid).toBe(process.getuid?.() ?? -1);
    child.kill(9);
    await child.exited;
    for (const look of [() => folder.stat(), () => folder.status()]) expect(look).toThrow(RiprapError);
    expect(folder.exe()).toBe("");
    expect(folder.exeFacts()).toBeUndefined();
    expect(folder.tryRead("cgroup", 4096)).toBeUndefined();
    folder.close();
    expect(() => ProcessFolder.open(child.pid)).toThrow("no such process");
  });

  test("close() gives back every descriptor", () => {
    const { pid } = run("/bin/sleep", "60");
    const folder = ProcessFolder.open(pid);
    folder.status();
    expect(openInside(pid)).toEqual([`/proc/${pid}`, `/proc/${pid}/stat`, `/proc/${pid}/status`]);
    folder.close();
    expect(openInside(pid)).toEqual([]);
  });
});
