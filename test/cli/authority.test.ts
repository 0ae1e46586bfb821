// Root working on the state directory of the daemon's user.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initTrustDomain } from "../../src/ca.ts";
import { asOwner, withAuthority } from "../../src/cli/authority.ts";
import { systemClock } from "../../src/clock.ts";

const IS_ROOT = process.geteuid?.() === 0;
const OWNER = 12_345;
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "riprap-owner-"));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("asOwner", () => {
  test.skipIf(!IS_ROOT)(
    "asOwner() leaves files of the directory's owner and gives root its rights back (needs root)",
    async () => {
      chownSync(folder, OWNER, OWNER);
      chmodSync(folder, 0o700);
      const init = { stateDir: folder, trustDomain: "edge.example", nodeName: "a", clock: systemClock };
      await asOwner(folder, () => initTrustDomain(init));
      expect(process.geteuid?.()).toBe(0);
      for (const name of readdirSync(folder, { recursive: true }).map(String))
        expect(statSync(join(folder, name)).uid).toBe(OWNER);
      expect(await asOwner(folder, () => withAuthority(folder, (authority) => authority.nodeName))).toBe("a");
      await expect(
        asOwner(folder, () => {
          throw new Error("in the middle");
        }),
      ).rejects.toThrow("in the middle");
      expect(process.geteuid?.()).toBe(0);
    },
  );

  test("withAuthority() leaves nothing behind where there is no trust domain", async () => {
    await expect(withAuthority(folder, () => undefined)).rejects.toThrow("riprap init");
    expect(readdirSync(folder)).toEqual([]);
  });
});
