// The systemd units as systemd itself judges them, without being installed: their exposure, their correctness, their agreement with the command.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseCommandLine } from "../../src/cli/parse.ts";
import { COMMANDS } from "../../src/cli/table.ts";
import { parseConfig } from "../../src/daemon/config.ts";

const FOLDER = join(import.meta.dir, "../../systemd");
const UNITS = readdirSync(FOLDER).filter((name) => name.endsWith(".service"));
const HAS_ANALYZE = Bun.which("systemd-analyze") !== null;
/** The most that systemd-analyze may say, of 10; each with what it is made of. */
const EXPOSURE_MAX: Readonly<Record<string, number>> = {
  // No network, no root; what stays is the evidence of other users' processes and the JIT.
  "riprap.service": 1.0,
  // Root with CAP_SYS_MODULE, which is all of root in the end: it runs for seconds and takes no input.
  "riprap-module.service": 2.0,
  // The network without any right.
  "riprap-resolver.service": 1.2,
};

/** With the network, where a node serves endpoints or belongs to a fleet. */
const NETWORK_EXPOSURE_MAX = 1.9;

let root: string;

beforeAll(() => {
  // A root of its own, in which the programs that the units name exist.
  root = mkdtempSync(join(tmpdir(), "riprap-units-"));
  for (const path of ["usr/bin/riprap", "bin/chown"]) {
    mkdirSync(join(root, path, ".."), { recursive: true });
    writeFileSync(join(root, path), "#!/bin/sh\n");
    chmodSync(join(root, path), 0o755);
  }
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

function analyze(argv: readonly string[]): { code: number; text: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync(["systemd-analyze", "--no-pager", ...argv], {
    env: { ...process.env, LC_ALL: "C.UTF-8" },
  });
  return { code: exitCode, text: `${stdout}${stderr}` };
}

describe("systemd units", () => {
  test.skipIf(!HAS_ANALYZE).each(UNITS)(
    "%s is no more exposed than its bound (skipped where there is no systemd-analyze)",
    (unit) => {
      const { text } = analyze(["security", "--offline=true", join(FOLDER, unit)]);
      const exposure = Number(/Overall exposure level for .*: ([0-9.]+)/.exec(text)?.[1]);
      expect(exposure).toBeLessThanOrEqual(EXPOSURE_MAX[unit] ?? 0);
    },
  );

  test.skipIf(!HAS_ANALYZE)(
    "riprap-network.conf gives riprap.service the network and nothing else (skipped where there is no systemd-analyze)",
    () => {
      const units = mkdtempSync(join(root, "network-"));
      const unit = join(units, "riprap.service");
      writeFileSync(unit, readFileSync(join(FOLDER, "riprap.service")));
      mkdirSync(`${unit}.d`);
      writeFileSync(join(`${unit}.d`, "network.conf"), readFileSync(join(FOLDER, "riprap-network.conf")));
      const lacks = (text: string) => [...text.matchAll(/^✗ ([A-Za-z]+=\S*)/gm)].map(([, name]) => name);
      const before = lacks(analyze(["security", "--offline=true", join(FOLDER, "riprap.service")]).text);
      const { text } = analyze(["security", "--offline=true", unit]);
      expect(lacks(text).filter((name) => !before.includes(name))).toEqual([
        "RestrictAddressFamilies=~AF_NETLINK",
        "RestrictAddressFamilies=~AF_(INET|INET6)",
        "PrivateNetwork=",
        "IPAddressDeny=",
      ]);
      expect(Number(/Overall exposure level for .*: ([0-9.]+)/.exec(text)?.[1])).toBeLessThanOrEqual(
        NETWORK_EXPOSURE_MAX,
      );
    },
  );

  test.skipIf(!HAS_ANALYZE).each(UNITS)(
    "%s verifies without a word (skipped where there is no systemd-analyze)",
    (unit) => {
      const text = readFileSync(join(FOLDER, unit), "utf8");
      const units = mkdtempSync(join(root, "units-"));
      // systemd-analyze looks for the programs on this machine, where riprap is not installed.
      for (const name of UNITS) {
        const other = readFileSync(join(FOLDER, name), "utf8");
        writeFileSync(join(units, name), other.replaceAll("=/usr/bin/riprap", `=${join(root, "usr/bin/riprap")}`));
      }
      expect(text).toContain("/usr/bin/riprap");
      expect(analyze(["verify", "--man=no", join(units, unit)])).toEqual({ code: 0, text: "" });
    },
  );

  test.each(UNITS)("%s calls riprap as the command line takes it", (unit) => {
    const lines = [...readFileSync(join(FOLDER, unit), "utf8").matchAll(/^Exec[A-Za-z]+=\/usr\/bin\/riprap (.+)$/gm)];
    expect(lines.length).toBeGreaterThan(0);
    for (const [, line] of lines)
      expect(parseCommandLine((line ?? "").split(" "), COMMANDS)).toMatchObject({ ask: "run" });
  });

  test("riprap.service requires the kernel, and its folders are those of the configuration's defaults", () => {
    const unit = readFileSync(join(FOLDER, "riprap.service"), "utf8");
    const { stateDir, controlSocket, rulesDir, device } = parseConfig("");
    expect(unit).toContain("--require-kernel");
    expect(unit).toContain(`StateDirectory=${stateDir.replace("/var/lib/", "")}\n`);
    expect(unit).toContain(`RuntimeDirectory=${controlSocket.replace("/run/", "").replace("/control.sock", "")}\n`);
    expect(unit).toContain(`ReadWritePaths=-${rulesDir}\n`);
    expect(unit).toContain(`DeviceAllow=${device} rw\n`);
    expect(unit).toContain(`ConditionPathExists=${stateDir}/ca/node.json\n`);
    expect(readFileSync(join(FOLDER, "riprap.tmpfiles"), "utf8")).toContain(` ${rulesDir} `);
  });

  test("only riprap-module.service may load code into the kernel", () => {
    for (const unit of UNITS) {
      const text = readFileSync(join(FOLDER, unit), "utf8");
      expect(/CapabilityBoundingSet=.*CAP_SYS_MODULE/.test(text)).toBe(unit === "riprap-module.service");
      expect(text).toContain("NoNewPrivileges=yes");
    }
  });
});
