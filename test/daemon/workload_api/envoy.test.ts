// A real Envoy takes its secrets from riprap and speaks mutual TLS with itself by them; it follows another identity, and the end of one.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Endpoint, identityRule, openEndpoint } from "./endpoint.ts";
import { ENVOY, envoyConfig, whyNoEnvoy } from "./envoy_program.ts";

const START_MS = 60_000;
const skipped = whyNoEnvoy();

describe.skipIf(skipped !== undefined)(`Envoy (${skipped ?? "from its wheel"})`, () => {
  // Short: a socket's path has room for 108 bytes.
  const folder = mkdtempSync(join(tmpdir(), "riprap-envoy-"));
  let endpoint: Endpoint;
  let envoy: Bun.Subprocess;

  /** Whom the serving side saw; undefined: there was no answer. */
  const callerSeen = async (): Promise<string | undefined> => {
    const response = await fetch("http://envoy/", { unix: join(folder, "in.sock") } as BunFetchRequestInit).catch(
      () => undefined,
    );
    return response?.status === 200 ? (response.headers.get("caller") ?? "") : undefined;
  };

  const until = async (wanted: string | undefined): Promise<void> => {
    for (;;) {
      if ((await callerSeen()) === wanted) return;
      await Bun.sleep(20);
    }
  };

  beforeAll(async () => {
    endpoint = await openEndpoint(folder, identityRule("envoy", { exe: ENVOY }));
    const config = envoyConfig({ sds: endpoint.path, folder });
    const words = ["--config-yaml", config, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"];
    envoy = Bun.spawn(["nice", ENVOY, ...words], { cwd: folder, stdin: "ignore", stdout: "ignore", stderr: "inherit" });
    await until("spiffe://example.org/envoy");
  }, START_MS);

  afterAll(async () => {
    envoy?.kill();
    await envoy?.exited;
    await endpoint?.close();
    await rm(folder, { recursive: true });
  });

  test(
    "StreamSecrets() and DeltaSecrets() give a real Envoy both sides of mutual TLS, and another identity when the rules say so (skipped where its wheel cannot be had)",
    async () => {
      expect(await callerSeen()).toBe("spiffe://example.org/envoy");
      endpoint.setRules(identityRule("other", { exe: ENVOY }));
      const begun = performance.now();
      await until("spiffe://example.org/other");
      expect(performance.now() - begun).toBeLessThan(START_MS / 4);
      expect(endpoint.api.rejectedSecrets).toBe(0);
      // As many streams as secrets: each side has an SVID and roots.
      expect(endpoint.api.streams).toBe(4);
    },
    START_MS,
  );

  test(
    "an Envoy whose roots are replaced accepts nobody of the old ones",
    async () => {
      const partner = await openEndpoint(mkdtempSync(join(folder, "partner-")), identityRule("app"));
      endpoint.setBundle({ x509: partner.bundle.x509 });
      await until(undefined);
      endpoint.setBundle({ x509: endpoint.bundle.x509 });
      await until("spiffe://example.org/other");
      await partner.close();
    },
    START_MS,
  );
});
