// The system calls through the C library, on real processes and descriptors of this machine.

import { expect, test } from "bun:test";
import { closeSync } from "node:fs";
import {
  clockTicks,
  deleteModule,
  finitModule,
  getsockoptBytes,
  pidfdIsAlive,
  pidfdOpen,
  sendUnixDatagram,
} from "../../src/daemon/libc.ts";
import { RiprapError } from "../../src/error.ts";

function code(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof RiprapError) return error.code;
    throw error;
  }
  return "none";
}

test("pidfdIsAlive() turns false when the process has ended", async () => {
  const child = Bun.spawn(["sleep", "30"]);
  const fd = pidfdOpen(child.pid);
  expect(pidfdIsAlive(fd)).toBe(true);
  child.kill("SIGKILL");
  await child.exited;
  expect(pidfdIsAlive(fd)).toBe(false);
  closeSync(fd);
});

test("pidfdOpen() gives ESRCH or EINVAL when no process has the number", () => {
  expect(code(() => pidfdOpen(4_194_303))).toBe("ESRCH");
  expect(code(() => pidfdOpen(-1))).toBe("EINVAL");
});

test("finitModule() and deleteModule() give the errno's name when the kernel refuses", () => {
  expect(["ENOSYS", "EPERM", "ENOEXEC"]).toContain(code(() => finitModule("/etc/hostname", "")));
  expect(["ENOSYS", "EPERM", "ENOENT"]).toContain(code(() => deleteModule("riprap_none")));
});

test("getsockoptBytes() and sendUnixDatagram() give the errno's name when the other end is wrong", () => {
  const fd = pidfdOpen(process.pid);
  expect(code(() => getsockoptBytes(fd, 1, 17, 12))).toBe("ENOTSOCK");
  closeSync(fd);
  expect(code(() => sendUnixDatagram("/nonexistent/socket", "READY=1"))).toBe("ENOENT");
  expect(() => sendUnixDatagram(`/${"a".repeat(200)}`, "")).toThrow(RangeError);
});

test("clockTicks() gives the unit of /proc/PID/stat when asked", () => {
  expect(clockTicks()).toBeGreaterThanOrEqual(100);
});
