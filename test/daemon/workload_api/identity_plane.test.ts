// The programs themselves, on a machine where no module is: the daemon says first that nothing is enforced, and a client has its SVID.

import { expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { scratchDirectories } from "../../scratch.ts";
import { identityRule } from "./endpoint.ts";
import { MAIN, prepareProgram } from "./program.ts";

const TEST_MS = 60_000;
const scratch = scratchDirectories();

test(
  "riprap daemon without a module starts in the identity plane, says so, and gives riprap svid watch its SVID (A-1)",
  async () => {
    const folder = scratch();
    const { config, rulesDir } = prepareProgram(folder);
    writeFileSync(join(rulesDir, "client.yaml"), identityRule("client"));
    const riprap = (...words: readonly string[]) =>
      Bun.spawn([process.execPath, MAIN, ...words, "--config", config], {
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
      });
    expect(await riprap("init", "fresh.example", "--node", "alone").exited).toBe(0);
    const daemon = riprap("daemon");
    try {
      expect(await riprap("wait-ready", "--timeout", "30s").exited).toBe(0);
      const status = JSON.parse(await new Response(riprap("status", "--json").stdout).text());
      expect(status).toMatchObject({ plane: "identity", ready: true });
      const files = join(folder, "svid");
      const watch = riprap("svid", "watch", "--once", "--dir", files);
      expect(await new Response(watch.stdout).text()).toStartWith("spiffe://fresh.example/client, serial ");
      const leaf = new X509Certificate(readFileSync(join(files, "svid.pem")));
      expect(leaf.subjectAltName).toBe("URI:spiffe://fresh.example/client");
    } finally {
      daemon.kill();
      await daemon.exited;
    }
    expect(await new Response(daemon.stderr).text()).toContain("NOTHING IS ENFORCED");
  },
  TEST_MS,
);
