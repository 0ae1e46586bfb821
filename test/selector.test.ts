// matchIdentities() and generateWorkloadIdentity(): which process gets which identity, and which gets none.
import { describe, expect, test } from "bun:test";
import type { LabelSet } from "../src/label.ts";
import { generateWorkloadIdentity, matchIdentities } from "../src/selector.ts";
import { identity, loadDocuments, loadText } from "./resource/sample.ts";

function labels(values: Record<string, string | readonly string[]>): LabelSet {
  return new Map(Object.entries(values).map(([name, value]) => [name, typeof value === "string" ? [value] : value]));
}

const AGENT = labels({
  "process:name": "python",
  "process:exe": "/usr/bin/python3.11",
  "process:cmdline": "python mcp_client.py --fast",
  "process:arg[0]": "python",
  "process:arg[1]": "mcp_client.py",
  "process:uid": "501",
  "process:group": ["users", "docker"],
  "node:name": "edge-1",
});

/** The IDs that match, `refused` for a match without one. */
function idsFor(process: LabelSet, ...documents: readonly unknown[]): string[] {
  return matchIdentities(process, loadDocuments(...documents)).map(({ spiffeId }) => String(spiffeId ?? "refused"));
}

function matches(selectors: unknown): boolean {
  return idsFor(AGENT, identity("i", { workloadID: "x", selectors })).length === 1;
}

describe("matchIdentities()", () => {
  test("matchIdentities() matches a map when all of its entries match", () => {
    expect(matches({ "process:uid": 501, "process:name": "python" })).toBe(true);
    expect(matches({ "process:uid": 502, "process:name": "python" })).toBe(false);
    expect(matches({ "process:uid": 501, "systemd:unit": "a.service" })).toBe(false);
  });

  test("matchIdentities() matches a list of maps when one of them matches", () => {
    expect(matches([{ "process:uid": 1 }, { "process:name": "python" }])).toBe(true);
    expect(matches([{ "process:uid": 1 }, { "process:name": "node" }])).toBe(false);
  });

  test("matchIdentities() matches a list of values when the process has one of them", () => {
    expect(matches({ "process:uid": [1, 501] })).toBe(true);
    expect(matches({ "process:group": ["docker", "none"] })).toBe(true);
    expect(matches({ "process:group": ["none"] })).toBe(false);
  });

  test("matchIdentities() matches a command line up to the end of a word", () => {
    for (const line of ["python", "python mcp_client.py", "python mcp_client.py --fast", "python mcp*", "*"]) {
      expect([line, matches({ "process:cmdline": line })]).toEqual([line, true]);
    }
    for (const line of ["python mcp_client.p", "python mcp_client.py --fast -x", "ython", "Python"]) {
      expect([line, matches({ "process:cmdline": line })]).toEqual([line, false]);
    }
  });

  test("matchIdentities() matches a path whole, or up to a star at its end", () => {
    expect(matches({ "process:exe": "/usr/bin/python3.11" })).toBe(true);
    expect(matches({ "process:exe": "/usr/bin/python3*" })).toBe(true);
    expect(matches({ "process:exe": "/usr/*" })).toBe(true);
    expect(matches({ "process:exe": "/usr/bin/python3" })).toBe(false);
    expect(matches({ "process:exe": "/usr/local/*" })).toBe(false);
  });

  test("matchIdentities() takes a star as itself where nothing is a pattern", () => {
    expect(matches({ "process:name": "pyth*" })).toBe(false);
    expect(matches({ "process:arg[1]": "mcp*" })).toBe(false);
  });

  test("matchIdentities() puts the selector with more labels first, then the name", () => {
    const ids = idsFor(
      AGENT,
      identity("b", { workloadID: "b", selectors: { "process:uid": 501 } }),
      identity("a", { workloadID: "a", selectors: { "process:name": "python" } }),
      identity("z", {
        workloadID: "z",
        selectors: [{ "process:arg[0]": "python" }, { "process:uid": 501, "process:name": "python" }],
      }),
    );
    expect(ids).toEqual(["spiffe://edge.test/z", "spiffe://edge.test/a", "spiffe://edge.test/b"]);
  });

  test("matchIdentities() says when only the name decided", () => {
    const set = loadDocuments(
      identity("a", { workloadID: "a", selectors: { "process:name": "python" } }),
      identity("b", { workloadID: "b", selectors: { "process:uid": 501 } }),
      identity("c", { workloadID: "c", selectors: { "process:uid": 501, "process:name": "python" } }),
    );
    expect(matchIdentities(AGENT, set).map(({ isAmbiguous }) => isAmbiguous)).toEqual([false, true, true]);
  });

  test("matchIdentities() fills a template from the labels", () => {
    const id = (workloadID: string) => idsFor(AGENT, identity("i", { workloadID, selectors: { "process:uid": 501 } }));
    expect(id("u[process:uid]/[process:name]")).toEqual(["spiffe://edge.test/u501/python"]);
    expect(id("s/[process:arg[1]]")).toEqual(["spiffe://edge.test/s/mcp_client.py"]);
    expect(id("spiffe://edge.test/n/[node:name]")).toEqual(["spiffe://edge.test/n/edge-1"]);
  });

  test("matchIdentities() refuses an ID whose label is missing, has two values or does not fit", () => {
    const refusal = (workloadID: string, process = AGENT) => {
      const [match] = matchIdentities(
        process,
        loadDocuments(identity("i", { workloadID, selectors: { "process:uid": 501 } })),
      );
      expect(match?.spiffeId).toBeUndefined();
      return match?.because.at(-1);
    };
    expect(refusal("[systemd:unit]")).toContain("does not have");
    expect(refusal("[process:group]")).toContain("has 2");
    for (const name of ["a/b", "..", ".", "a b", "é", "a%2f", "", "-/..", "x\n"]) {
      const process = new Map([...AGENT, ["process:name", [name]] as const]);
      expect([name, refusal("n/[process:name]", process) !== undefined]).toEqual([name, true]);
    }
    expect(refusal("[process:name]", new Map([...AGENT, ["process:name", ["a".repeat(2048)]] as const]))).toContain(
      "longer than 2048",
    );
    // What the endpoints of this node prove to others.
    const named = new Map([...AGENT, ["process:name", ["riprap"]] as const]);
    expect(refusal("[process:name]/bundle-endpoint", named)).toContain("the daemon's own");
  });

  test("matchIdentities() does not fall back on a less specific identity when the first is refused", () => {
    const ids = idsFor(
      AGENT,
      identity("wide", { workloadID: "wide", selectors: { "process:uid": 501 } }),
      identity("narrow", { workloadID: "[systemd:unit]", selectors: { "process:uid": 501, "process:name": "python" } }),
    );
    expect(ids).toEqual(["refused", "spiffe://edge.test/wide"]);
  });

  test("matchIdentities() keeps an identity to its node, and to its group where groups are known", () => {
    const scoped = (scope: unknown) => identity("i", { workloadID: "x", selectors: { "process:uid": 501 }, scope });
    expect(idsFor(AGENT, scoped({ node: { id: "edge-1" } }))).toHaveLength(1);
    expect(idsFor(AGENT, scoped({ node: { id: "edge-2" } }))).toHaveLength(0);
    expect(idsFor(AGENT, scoped({ nodeGroup: { id: "g" } }))).toHaveLength(1);
    const grouped = new Map([...AGENT, ["node:group", ["g", "h"]] as const]);
    expect(idsFor(grouped, scoped({ nodeGroup: { id: "h" } }))).toHaveLength(1);
    expect(idsFor(grouped, scoped({ agentGroup: { id: "other" } }))).toHaveLength(0);
  });

  test("matchIdentities() says why in a sentence for each label", () => {
    const [match] = matchIdentities(
      AGENT,
      loadDocuments(
        identity("i", { workloadID: "x", selectors: { "process:uid": [501, 9], "process:cmdline": "python" } }),
      ),
    );
    expect(match?.because).toEqual(['process:cmdline is "python mcp_client.py --fast"', 'process:uid is "501"']);
  });
});

describe("generateWorkloadIdentity()", () => {
  const PROCESSES = {
    binary: labels({
      "process:exe": "/usr/sbin/nginx",
      "process:name": "nginx",
      "process:uid": "33",
      "process:pid": "7",
      "systemd:unit": "nginx.service",
    }),
    script: labels({
      "process:exe": "/usr/bin/python3.11",
      "process:script": '/opt/it\'s "a" #b: c.py',
      "process:name": "python3",
      "process:uid": "0",
      "process:pid": "8",
    }),
    module: labels({
      "process:exe": "/usr/bin/python3.11",
      "process:cmdline": "python3 -m http.server 80",
      "process:name": "python3",
      "process:uid": "1",
      "process:pid": "9",
    }),
    session: labels({
      "process:exe": "/bin/true",
      "process:uid": "1",
      "systemd:unit": "session-4.scope",
      "process:pid": "10",
    }),
    nameless: labels({ "process:name": "{x}: y", "process:uid": "1", "process:pid": "11" }),
    odd: labels({ "process:exe": "/tmp/a*", "process:name": "a*", "process:uid": "1" }),
  };

  test.each(Object.entries(PROCESSES))(
    "generateWorkloadIdentity() selects the process that it was made from: %s",
    (_, process) => {
      const set = loadText(generateWorkloadIdentity(process));
      expect(matchIdentities(process, set)).toHaveLength(1);
      expect(set.warnings).toEqual([]);
    },
  );

  test("generateWorkloadIdentity() never selects by PID or session", () => {
    for (const process of Object.values(PROCESSES)) {
      expect(generateWorkloadIdentity(process)).not.toMatch(/process:pid|\.scope/);
    }
  });

  test("generateWorkloadIdentity() tells two scripts of one interpreter apart", () => {
    const other = new Map([...PROCESSES.script, ["process:script", ["/opt/other.py"]] as const]);
    expect(matchIdentities(other, loadText(generateWorkloadIdentity(PROCESSES.script)))).toHaveLength(0);
  });

  test("generateWorkloadIdentity() takes the ID that is asked for", () => {
    const [match] = matchIdentities(
      PROCESSES.binary,
      loadText(generateWorkloadIdentity(PROCESSES.binary, "edge/proxy")),
    );
    expect(String(match?.spiffeId)).toBe("spiffe://edge.test/edge/proxy");
  });

  test("generateWorkloadIdentity() refuses when nothing is known of the program", () => {
    expect(() => generateWorkloadIdentity(labels({ "process:uid": "0" }))).toThrow(
      expect.objectContaining({ code: "invalid" }),
    );
  });
});
