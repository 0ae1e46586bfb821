// riprap authority custody and export: what they show, move and refuse, as a person types them.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { moveCustody, openKeyStore } from "../../../src/ca/key_store.ts";
import { initTrustDomain } from "../../../src/ca.ts";
import { asOwner } from "../../../src/cli/authority.ts";
import { runCli } from "../../../src/cli.ts";
import { systemClock } from "../../../src/clock.ts";
import { openControl } from "../../../src/daemon/control.ts";
import { HAS_SYSTEMD_CREDS, noTpm, systemdOf } from "../../ca/key_store/ground.ts";
import { fakePort } from "../../daemon/control/fake_port.ts";
import { fakeTerminal } from "../fake_terminal.ts";

const OWNER = 12_345;
let folder: string;
let stateDir: string;
let config: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "riprap-custody-"));
  stateDir = join(folder, "state");
  config = join(folder, "riprap.yaml");
  writeFileSync(config, `stateDir: ${stateDir}\ncontrolSocket: ${join(folder, "control.sock")}\n`);
  await initTrustDomain({ stateDir, trustDomain: "edge.test", nodeName: "a", clock: systemClock });
});

afterEach(() => rmSync(folder, { recursive: true }));

async function riprap(...words: string[]) {
  const terminal = fakeTerminal();
  const code = await runCli([...words, "--config", config], terminal);
  return { code, out: terminal.out.join("\n"), err: terminal.err.join("\n") };
}

describe("authority custody", () => {
  test("it shows each key and where it lies", async () => {
    const { code, out } = await riprap("authority", "custody", "--json");
    expect(code).toBe(0);
    const view = JSON.parse(out);
    expect(view).toMatchObject({ custody: "file" });
    expect(view.keys).toContainEqual({ name: "root", sealed: false });
    expect((await riprap("authority", "custody")).out).toContain("lies open in its file (0600)");
  });

  test("it refuses while a daemon runs, and a custody that is none", async () => {
    const control = await openControl(fakePort({}), { path: join(folder, "control.sock") });
    const { code, err } = await riprap("authority", "custody", "file");
    await control.close();
    expect([code, err.includes("a daemon uses them")]).toEqual([1, true]);
    expect((await riprap("authority", "custody", "vault")).code).toBe(2);
    expect((await riprap("authority", "custody", "file", "--json")).out).toContain('"moved": 0');
  });
});

describe("authority export", () => {
  test("it takes the root key out, and the node says what it misses", async () => {
    const file = join(folder, "root.key");
    const before = readFileSync(join(stateDir, "ca/root.key"));
    const { code, out } = await riprap("authority", "export", "root", file, "--remove");
    expect([code, out]).toEqual([0, `root is in ${file}, and no longer on this node`]);
    expect([readFileSync(file).equals(before), statSync(file).mode & 0o777]).toEqual([true, 0o600]);
    expect(readdirSync(join(stateDir, "ca"))).not.toContain("root.key");
    const again = await riprap("authority", "export", "root", file);
    expect([again.code, again.err.includes("this node has node")]).toEqual([1, true]);
    expect((await riprap("authority", "export", "../node", file)).code).toBe(1);
  });
});

describe.skipIf(!HAS_SYSTEMD_CREDS)("root on the daemon's state", () => {
  test("moveCustody() opens the seal as root and leaves files of the daemon's user", async () => {
    for (const path of ["", ...(readdirSync(stateDir, { recursive: true }) as string[])])
      chownSync(join(stateDir, path), OWNER, OWNER);
    chmodSync(folder, 0o755);
    const ground = { openTpm: noTpm, systemd: systemdOf(folder) };
    const moved = await asOwner(stateDir, () => moveCustody(stateDir, "systemd", ground));
    expect(moved).toMatchObject({ from: "file", to: "systemd" });
    for (const name of readdirSync(join(stateDir, "ca"))) expect(statSync(join(stateDir, "ca", name)).uid).toBe(OWNER);
    const signed = await asOwner(stateDir, () =>
      openKeyStore(stateDir, { ground }).openKey("node").sign(Buffer.from("x")),
    );
    expect(signed.length).toBeGreaterThan(60);
    expect(process.geteuid?.()).toBe(0);
  });
});
