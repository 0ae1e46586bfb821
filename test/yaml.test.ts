// parseYaml(): bounded, exact about places, and deaf to every clever feature.
import { describe, expect, test } from "bun:test";
import { parseYaml, toPlain } from "../src/yaml.ts";
import { seeded } from "./abi/sample.ts";
import { HOSTILE_YAML } from "./resource/hostile.ts";
import { loadText, problemsOf } from "./resource/sample.ts";

describe("parseYaml()", () => {
  test("parseYaml() gives every document that is not empty when there are several", () => {
    const { documents, faults } = parseYaml("# only a comment\n---\na: 1\n---\n---\nb: [x, true, null, 1.50]\n...\n");
    expect([documents.map(({ root }) => toPlain(root)), faults]).toEqual([
      [{ a: 1 }, { b: ["x", true, null, 1.5] }],
      [],
    ]);
  });

  test("parseYaml() keeps how a number was written", () => {
    const { documents } = parseYaml("[007, 1.10, 0x1F, yes, '12']");
    const root = documents[0]?.root;
    expect(root?.type === "list" && root.items.map((item) => item.type === "scalar" && item.text)).toEqual([
      "007",
      "1.10",
      "0x1F",
      "yes",
      "12",
    ]);
  });

  test("parseYaml() follows an alias within the bounds", () => {
    const { documents } = parseYaml("a: &x [1]\nb: *x");
    expect(toPlain(documents[0]?.root ?? { type: "list", at: { line: 1, column: 1 }, items: [] })).toEqual({
      a: [1],
      b: [1],
    });
  });

  test("parseYaml() names line and column of the second key when a key is there twice", () => {
    expect(parseYaml("a:\n  b: 1\n  b: 2\n").faults).toMatchObject([
      { at: { line: 3, column: 3 }, message: 'key "b" is there twice, first on line 2' },
    ]);
  });

  test.each(HOSTILE_YAML)(
    "loadResources() refuses, quickly and with a place, %s",
    (_, text) => {
      const start = performance.now();
      const problems = problemsOf(() => loadText(text));
      expect(performance.now() - start).toBeLessThan(5000);
      expect(problems.length).toBeGreaterThan(0);
      for (const { file, line, column, message, remedy } of problems) {
        expect([file, line > 0, column > 0, message.length > 0, remedy.length > 0]).toEqual([
          "rules.yaml",
          true,
          true,
          true,
          true,
        ]);
      }
    },
    30_000,
  );

  test("loadResources() never fails but by ResourceError when a good file is broken at random", () => {
    const good = [
      "apiVersion: riprap.io/v1\nkind: WorkloadIdentity\nmetadata: {name: a}\nspec:\n  workloadID: a/[process:uid]\n",
      "  selectors:\n    - process:uid: [1, 2]\n      process:exe: /usr/bin/a*\n  svid: {x509: {ttl: 1h, dnsNames: [a.test]}}\n---\n",
      "apiVersion: riprap.io/v1\nkind: AccessPolicy\nmetadata: {name: b}\nspec: {workloads: ['*'], egress: [{to: [{address: 10.0.0.0/8}], ports: [1-2]}]}\n",
    ].join("");
    const random = seeded(0xbad);
    const letters = "\0\t\n :,[]{}&*!|>'\"%@#-0aZ\u00e9";
    let refused = 0;
    for (let i = 0; i < 800; i++) {
      let text = good;
      for (let n = 1 + random(4); n > 0; n--) {
        const at = random(text.length);
        const change = random(3);
        const letter = letters[random(letters.length)] ?? "";
        text = text.slice(0, at) + (change === 0 ? "" : letter) + text.slice(at + (change === 1 ? 0 : 1));
      }
      refused += problemsOf(() => loadText(text)).length > 0 ? 1 : 0;
    }
    expect(refused).toBeGreaterThan(300);
    expect(problemsOf(() => loadText(good))).toEqual([]);
  }, 60_000);
});
