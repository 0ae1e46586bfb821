import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { explainPolicy } from "../src/policy.ts";
import { parseResources } from "../src/resource.ts";
import { SpiffeId, TrustDomain } from "../src/spiffe_id.ts";

const ROOT = join(import.meta.dir, "..");
const readme = readFileSync(join(ROOT, "README.md"), "utf8");

test("README's rules load without a warning and allow what it says", () => {
  const [, text = ""] = /<<'YAML'\n(.*?)^YAML$/ms.exec(readme) ?? [];
  const trustDomain = TrustDomain.parse("example.org");
  const resources = parseResources([{ file: "README.md", text }], { trustDomain });
  expect(resources.warnings).toEqual([]);
  const verdict = (from: string, port: number) =>
    explainPolicy(
      { from: SpiffeId.parse(`spiffe://example.org/${from}`), to: { address: "10.0.0.2", port } },
      { resources, addresses: new Map() },
    ).verdict;
  expect([verdict("agent", 80), verdict("agent", 81)]).toEqual(["allow", "deny"]);
});

test("README and ARCHITECTURE name only files that are there", () => {
  for (const page of ["README.md", "ARCHITECTURE.md"]) {
    const text = readFileSync(join(ROOT, page), "utf8");
    const named = [...text.matchAll(/`((?:src|kernel|test|systemd|docs)\/[\w./]*)`|\]\(([\w./]+\.md)\)/g)];
    expect(named.length, page).toBeGreaterThan(0);
    const missing = named
      .map(([, code, link]) => (code ?? link) as string)
      .filter((path) => !Bun.file(join(ROOT, path)).size && !isFolder(path));
    expect(missing, page).toEqual([]);
  }
});

function isFolder(path: string): boolean {
  return new Bun.Glob(`${path.replace(/\/$/, "")}/**`).scanSync({ cwd: ROOT }).next().done === false;
}
