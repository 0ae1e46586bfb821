// What the daemon keeps of each process, and what processes hold together.

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type Assignment, Registry } from "../../src/daemon/registry.ts";
import { SpiffeId } from "../../src/spiffe_id.ts";

const WEIGHER = join(import.meta.dir, "../bench/identity_weight.ts");
/** DESIGN section 11: 1.5 KB an identity. */
const IDENTITY_BYTES_MAX = 1500;

const CURL = SpiffeId.parse("spiffe://edge.test/curl");

function assignment(change: Partial<Assignment> = {}): Assignment {
  return {
    spiffeId: SpiffeId.parse("spiffe://edge.test/curl"),
    rule: "WorkloadIdentity/curl",
    because: ["process:exe is /usr/bin/curl"],
    lifetimeSeconds: 3600,
    dnsNames: [],
    delivery: "kernel",
    ...change,
  };
}

describe("Registry", () => {
  test("share() gives the earlier assignment when it is equal", () => {
    const registry = new Registry();
    registry.enrol(CURL);
    const first = registry.share(assignment());
    expect(registry.share(assignment())).toBe(first);
  });

  test.each([
    ["ID", { spiffeId: SpiffeId.parse("spiffe://edge.test/curl2") }],
    ["rule", { rule: "WorkloadIdentity/other" }],
    ["reason", { because: ["process:exe is /usr/bin/curl", "process:uid is 0"] }],
    ["lifetime", { lifetimeSeconds: 60 }],
    ["DNS name", { dnsNames: ["curl.edge.test"] }],
    ["delivery", { delivery: "workload-api" as const }],
  ])("share() keeps both when they differ in their %s", (_, change) => {
    const registry = new Registry();
    registry.enrol(CURL);
    registry.share(assignment());
    const other = assignment(change);
    expect(registry.share(other)).toBe(other);
  });

  test("share() keeps nothing of an ID without a number, nor of one that is no longer in use", () => {
    const registry = new Registry();
    const unnumbered = registry.share(assignment());
    registry.enrol(CURL);
    const numbered = registry.share(assignment());
    expect(numbered).not.toBe(unnumbered);
    registry.retain([]);
    registry.enrol(CURL);
    expect(registry.share(assignment())).not.toBe(numbered);
  });

  test(`a process with an identity takes at most ${IDENTITY_BYTES_MAX} bytes of the daemon's heap`, async () => {
    const weigher = Bun.spawn([process.execPath, WEIGHER], { stdout: "pipe", stderr: "inherit" });
    const bytes = Number(await new Response(weigher.stdout).text());
    expect(await weigher.exited).toBe(0);
    expect(bytes).toBeGreaterThan(0);
    expect(bytes).toBeLessThanOrEqual(IDENTITY_BYTES_MAX);
  }, 60_000);
});
