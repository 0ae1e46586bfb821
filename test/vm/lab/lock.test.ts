import { expect, test } from "bun:test";
import { join } from "node:path";
import { scratchDirectories } from "../../scratch.ts";
import { withLock } from "./lock.ts";

const scratch = scratchDirectories();

test("withLock() lets one at a time in when several processes ask", async () => {
  const folder = scratch();
  const module = join(import.meta.dir, "lock.ts");
  const script = `import { withLock } from "${module}"; import { appendFileSync } from "node:fs";
    await withLock("${folder}/lock", async () => { appendFileSync("${folder}/log", "in "); await Bun.sleep(20); appendFileSync("${folder}/log", "out "); });`;
  const children = Array.from({ length: 4 }, () => Bun.spawn([process.execPath, "-e", script]));
  expect(await Promise.all(children.map((child) => child.exited))).toEqual([0, 0, 0, 0]);
  expect(await Bun.file(join(folder, "log")).text()).toBe("in out in out in out in out ");
});

test("withLock() lets the next one in when its holder is killed", async () => {
  const folder = scratch();
  const module = join(import.meta.dir, "lock.ts");
  const script = `import { withLock } from "${module}";
    await withLock("${folder}/lock", async () => { console.log("held"); await new Promise(() => setInterval(() => {}, 1000)); });`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
  await child.stdout.getReader().read();
  child.kill("SIGKILL");
  expect(await withLock(join(folder, "lock"), async () => "in")).toBe("in");
});

test("withLock() passes on what its work throws, and is free again", async () => {
  const lock = join(scratch(), "lock");
  const failing = withLock(lock, () => Promise.reject(new Error("no")));
  await expect(failing).rejects.toThrow("no");
  expect(await withLock(lock, async () => 1)).toBe(1);
});

test("withLock() says where when there can be no lock", async () => {
  const lock = join(scratch(), "nowhere/lock");
  await expect(withLock(lock, async () => 1)).rejects.toThrow(`Cannot lock ${lock}: `);
});
