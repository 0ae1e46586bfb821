// docs/resources.md: every example loads, and the tables name what the code knows.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { compilePolicy, explainPolicy } from "../../src/policy.ts";
import { labelNames } from "../../src/resource/label.ts";
import { FILE_BYTES_MAX, FILES_MAX, SET_BYTES_MAX } from "../../src/resource/read.ts";
import { type Mode, parseResources } from "../../src/resource.ts";
import { SpiffeId, TrustDomain } from "../../src/spiffe_id.ts";
import { YAML_ALIASES_MAX, YAML_DEPTH_MAX } from "../../src/yaml.ts";

const page = readFileSync(join(import.meta.dir, "../../docs/resources.md"), "utf8");
const trustDomain = TrustDomain.parse("edge.example");
const examples = [...page.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = ""], i) => ({
  file: `example ${i + 1}`,
  text,
}));
const resources = parseResources(examples, { trustDomain });

describe("docs/resources.md", () => {
  test("parseResources() loads all of its examples as one set without a warning", () => {
    expect(examples.length).toBeGreaterThanOrEqual(5);
    expect(resources.warnings).toEqual([]);
  });

  test("compilePolicy() compiles its examples, which do what the page says", () => {
    const agent = SpiffeId.parse("spiffe://edge.example/agents/mail/me");
    const addresses = new Map([
      ["db.edge.example", ["10.20.0.6"]],
      ["api.weather.example", ["192.0.2.7"]],
    ]);
    const compiled = compilePolicy({
      resources,
      trustDomain,
      subjects: new Map([[1, agent]]),
      addresses,
      generation: 1n,
    });
    expect(compiled.warnings).toEqual([]);
    const verdict = (address: string, port: number) =>
      explainPolicy({ from: agent, to: { address, port } }, { resources, addresses }).verdict;
    expect([verdict("10.20.0.5", 5432), verdict("192.0.2.7", 443), verdict("10.20.0.9", 514)]).toEqual([
      "allow",
      "allow",
      "plain",
    ]);
    expect([verdict("10.20.0.5", 80), verdict("169.254.169.254", 8443)]).toEqual(["deny", "deny"]);
  });

  test("labelNames() are all in its table", () => {
    const documented = new Set(
      [...page.matchAll(/`((?:process|systemd|container):[a-z0-9_:]+)`/g)].map(([, name]) => name),
    );
    expect(labelNames().filter((name) => !documented.has(name))).toEqual([]);
  });

  test("bounds are those of the code", () => {
    const number = (n: number) => n.toLocaleString("en-US");
    expect(page).toContain(
      `${FILE_BYTES_MAX >> 20} MiB of UTF-8; ${YAML_DEPTH_MAX} levels deep; ${number(YAML_ALIASES_MAX)} aliases`,
    );
    expect(page).toContain(`${number(FILES_MAX)} files, ${SET_BYTES_MAX >> 20} MiB, 16,384 documents`);
    for (const mode of ["enforce", "permissive", "observe"] satisfies Mode[]) expect(page).toContain(`\`${mode}\``);
  });
});
