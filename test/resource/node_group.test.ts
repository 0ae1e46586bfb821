import { describe, expect, test } from "bun:test";
import { parseResources, ResourceError } from "../../src/resource.ts";
import { TrustDomain } from "../../src/spiffe_id.ts";

const trustDomain = TrustDomain.parse("example.org");

function load(spec: string, name = "edge") {
  const text = `apiVersion: riprap.io/v1\nkind: NodeGroup\nmetadata: { name: ${name} }\nspec: ${spec}\n`;
  return parseResources([{ file: "group.yaml", text }], { trustDomain }).nodeGroups;
}

function codesOf(spec: string, name?: string): readonly string[] {
  try {
    load(spec, name);
    return [];
  } catch (thrown) {
    if (thrown instanceof ResourceError) return thrown.problems.map(({ code }) => code);
    throw thrown;
  }
}

describe("NodeGroup", () => {
  test("parseResources() gives names and patterns of nodes", () => {
    expect(load("{ nodes: [edge-1, 'edge-ams-*', '*'] }")).toMatchObject([
      { kind: "NodeGroup", name: "edge", nodes: ["edge-1", "edge-ams-*", "*"] },
    ]);
  });

  test.each([
    ["{ nodes: [] }", "field_invalid"],
    ["{ nodes: [Edge] }", "field_invalid"],
    ["{ nodes: ['edge-*-1'] }", "field_invalid"],
    ["{ nodes: ['edge 1'] }", "field_invalid"],
    ["{ nodes: edge-1, groups: [a] }", "field_unknown"],
    ["{}", "field_missing"],
  ])("parseResources() refuses %s", (spec, code) => {
    expect(codesOf(spec)).toContain(code);
  });

  test("parseResources() refuses a name that a scope could not say", () => {
    expect(codesOf("{ nodes: [edge-1] }", "edge.europe")).toEqual(["name_invalid"]);
  });
});
