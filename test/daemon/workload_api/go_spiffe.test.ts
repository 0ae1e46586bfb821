// go-spiffe against the Workload API: a client, and a judge of SVIDs and bundles, that is not ours. Built once, kept in .cache.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { scratchDirectories } from "../../scratch.ts";
import { BUILD_MS, goProgram } from "../go_program.ts";
import { type Endpoint, identityRule, openEndpoint } from "./endpoint.ts";

const scratch = scratchDirectories();
const { binary, skipped, build } = goProgram(join(import.meta.dir, "go_spiffe"), "go_spiffe");

describe.skipIf(skipped !== undefined)(`go-spiffe (${skipped ?? "built from its modules"})`, () => {
  let endpoint: Endpoint;

  beforeAll(async () => {
    expect(build()).toBe(true);
    endpoint = await openEndpoint(scratch(), rules("go/client"));
  }, BUILD_MS);

  afterAll(() => endpoint?.close());

  const rules = (id: string) => identityRule(id, { exe: binary });
  const run = (...words: readonly string[]) =>
    Bun.spawn([binary, ...words], {
      env: { SPIFFE_ENDPOINT_SOCKET: `unix://${endpoint.path}` },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });

  test("go-spiffe fetches and verifies X509-SVID, JWT-SVID and bundles (X-1, X-3, X-10, X-12, X-16, A-12, A-16, A-17, A-18, A-19, J-3, J-4)", async () => {
    const child = run();
    const [text, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    expect(errors).toBe("");
    const [x509, jwt] = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const id = "spiffe://example.org/go/client";
    expect(x509).toMatchObject({ id, verified: id, chain: 2, trusts: true });
    expect(jwt).toEqual({ parsed: id, validated: id, audience: ["one", "two"], another: "PermissionDenied" });
  });

  test("go-spiffe sees another identity at once, and PermissionDenied when it is taken away (A-14, A-15)", async () => {
    endpoint.setRules(rules("go/client"));
    const child = run("watch");
    const lines: Record<string, string>[] = [];
    const next = [() => endpoint.setRules(rules("go/other")), () => endpoint.setRules(identityRule("app"))];
    let rest = "";
    for await (const chunk of child.stdout) {
      const whole = (rest + new TextDecoder().decode(chunk)).split("\n");
      rest = whole.pop() ?? "";
      for (const line of whole) {
        lines.push(JSON.parse(line));
        next.shift()?.();
      }
    }
    expect(lines).toEqual([
      { id: "spiffe://example.org/go/client" },
      { id: "spiffe://example.org/go/other" },
      { error: "PermissionDenied" },
    ]);
  });
});
