// The daemon's configuration: defaults, and every wrong key named with its line.

import { expect, test } from "bun:test";
import { CONFIG_TABLE, loadConfig, parseConfig } from "../../src/daemon/config.ts";

function refusal(text: string): string {
  try {
    parseConfig(text, "riprap.yaml");
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}

test("parseConfig() gives the default of every key when the file is empty", () => {
  const config = parseConfig("");
  expect(Object.keys(config)).toEqual(Object.keys(CONFIG_TABLE));
  expect(config).toMatchObject({
    stateDir: "/var/lib/riprap",
    attestTimeout: 3000,
    sniffTimeout: 500,
    svidLifetime: 3_600_000,
  });
  expect(config).toMatchObject({ requireKernel: false, unknownMode: "enforce", logLevel: "info" });
});

test("parseConfig() takes a value when its key is known", () => {
  const config = parseConfig(
    "stateDir: /srv/riprap\nrequireKernel: true\nattestTimeout: 250ms\nunknownMode: observe\n",
  );
  expect(config).toMatchObject({
    stateDir: "/srv/riprap",
    requireKernel: true,
    attestTimeout: 250,
    unknownMode: "observe",
  });
});

test("parseConfig() names every wrong key with its line when several are wrong", () => {
  const message = refusal(
    "stateDir: state\nspeed: 3\nattestTimeout: 3\nsvidLifetime: 2h\nunknownMode: off\nrulesDir: [/a]\n",
  );
  expect(message).toContain('stateDir: riprap.yaml:1: "state" is not an absolute path');
  expect(message).toContain("speed: riprap.yaml:2: unknown key");
  expect(message).toContain("attestTimeout: riprap.yaml:3:");
  expect(message).toContain("svidLifetime: riprap.yaml:4:");
  expect(message).toContain("unknownMode: riprap.yaml:5:");
  expect(message).toContain("rulesDir: riprap.yaml:6: it takes one value");
});

test("parseConfig() refuses a file when it is no map, doubled or broken", () => {
  expect(refusal("- a\n")).toContain("it is no map");
  expect(refusal("stateDir: /a\nstateDir: /b\n")).toContain("riprap.yaml:2");
  expect(refusal("stateDir: [\n")).toContain("riprap.yaml:");
  expect(refusal("stateDir: /a\n---\nstateDir: /b\n")).toContain("2 documents");
});

test("loadConfig() gives the defaults when there is no file", () => {
  expect(loadConfig("/nonexistent/riprap.yaml")).toEqual(parseConfig(""));
});
