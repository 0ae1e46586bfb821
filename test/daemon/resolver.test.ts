// Names asked through a socket, as a daemon without a network asks.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ControlListener } from "../../src/daemon/control/listener.ts";
import { openResolver, resolveThrough } from "../../src/daemon/resolver.ts";

let folder: string;
let path: string;
let listener: ControlListener | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "riprap-resolver-"));
  path = join(folder, "resolver.sock");
});

afterEach(async () => {
  await listener?.close();
  listener = undefined;
  rmSync(folder, { recursive: true, force: true });
});

describe("openResolver and resolveThrough", () => {
  test("resolveThrough() gives the addresses and lives that the resolver found, to anyone on the machine", async () => {
    listener = await openResolver(path, async (name) => [
      { address: name === "db.example" ? "10.0.0.2" : "10.0.0.3", ttlMs: 5_000 },
    ]);
    expect(statSync(path).mode & 0o777).toBe(0o666);
    expect(await resolveThrough(path)("db.example")).toEqual([{ address: "10.0.0.2", ttlMs: 5_000 }]);
  });

  test("resolveThrough() rejects with the resolver's reason, and says when there is no resolver", async () => {
    await expect(resolveThrough(path)("db.example")).rejects.toThrow("start riprap-resolver.service");
    listener = await openResolver(path, () => Promise.reject(new Error("ENOTFOUND db.example")));
    await expect(resolveThrough(path)("db.example")).rejects.toThrow("ENOTFOUND db.example");
  });

  test.each(["", "a b", "a..b", "../etc", "x".repeat(254), "a\nb"])(
    "openResolver() refuses the name %j",
    async (name) => {
      listener = await openResolver(path, async () => [{ address: "10.0.0.2", ttlMs: 1 }]);
      await expect(resolveThrough(path)(name)).rejects.toThrow("is no host name");
    },
  );

  test.each(["{}", '[{"address":1,"ttlMs":1}]', '[{"address":"10.0.0.1"}]', "[null]", "no json"])(
    "resolveThrough() rejects the answer %s",
    async (body) => {
      const other = Bun.serve({ unix: path, fetch: () => new Response(body) });
      await expect(resolveThrough(path)("db.example")).rejects.toThrow();
      await other.stop(true);
    },
  );

  test("openResolver() refuses more questions than it can hold", async () => {
    const gate = Promise.withResolvers<void>();
    listener = await openResolver(path, async () => {
      await gate.promise;
      return [];
    });
    const ask = resolveThrough(path);
    const held = Array.from({ length: 64 }, () => ask("a"));
    const counted = async (): Promise<string> =>
      ask("a").then(
        () => "answered",
        (thrown: Error) => thrown.message,
      );
    // The held questions reach the service in their own time; one past them is refused once all are there.
    const last = Array.from({ length: 8 }, counted);
    const first = await Promise.race(last);
    gate.resolve();
    await Promise.all(held.map((question) => question.catch(() => undefined)));
    expect(first).toContain("questions are open");
  });
});
