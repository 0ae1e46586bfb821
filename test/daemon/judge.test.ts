import { expect, test } from "bun:test";
import { judgeProcess } from "../../src/daemon/judge.ts";
import { identity, loadDocuments } from "../resource/sample.ts";

const DIGEST = "ab".repeat(32);
const labels = new Map([
  ["process:name", ["curl"]],
  ["process:exe:sha256:running", [DIGEST]],
]);
const resources = loadDocuments(identity("curl", { workloadID: "curl", selectors: [{ "process:name": "curl" }] }));
const free = { lifetimeSeconds: 3600, revokedIdReason: () => undefined };

test("judgeProcess() gives the ID of the rule when nothing is revoked", () => {
  expect(judgeProcess(labels, resources, free)).toMatchObject({ outcome: "identity" });
});

test("judgeProcess() refuses a process of a revoked executable, and one with a revoked ID, and says why", () => {
  const reason = `its executable ${DIGEST} is revoked: malware`;
  const executable = { ...free, revokedExecutable: (digest: string) => (digest === DIGEST ? reason : undefined) };
  expect(judgeProcess(labels, resources, executable)).toMatchObject({
    outcome: "refused",
    reason,
  });
  expect(judgeProcess(labels, resources, { ...free, revokedIdReason: () => "stolen" })).toMatchObject({
    outcome: "refused",
    reason: "spiffe://edge.test/curl is revoked: stolen",
  });
});
