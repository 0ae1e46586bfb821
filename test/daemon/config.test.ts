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

test("parseConfig() takes addresses of endpoints as numbers alone, and plain HTTP and the Workload API on loopback alone (E-1)", () => {
  const good =
    "bundleListen: 0.0.0.0:8443\nwebListen: '[::]:443'\nhealthListen: 127.0.0.1:9090\nworkloadTcp: 127.0.0.1:8081\n";
  expect(parseConfig(`${good}oidcIssuer: https://oidc.edge.test/tenant\n`)).toMatchObject({
    bundleListen: { host: "0.0.0.0", port: 8443 },
    webListen: { host: "::", port: 443 },
    healthListen: { host: "127.0.0.1", port: 9090 },
    workloadTcp: { host: "127.0.0.1", port: 8081 },
    oidcIssuer: "https://oidc.edge.test/tenant",
  });
  for (const line of [
    ...["8443", "localhost:8443", "0.0.0.0:65536", "0.0.0.0", "::1:443", "300.0.0.1:1"].map(
      (at) => `bundleListen: "${at}"`,
    ),
    ...["0.0.0.0:9090", "10.0.0.1:9090", "'[::]:9090'"].flatMap((at) => [`healthListen: ${at}`, `workloadTcp: ${at}`]),
    ...["http://a.test", "https://a.test/", "https://me@a.test", "https://a.test?x=1", "a.test"].map(
      (url) => `oidcIssuer: "${url}"`,
    ),
  ])
    expect([line, refusal(`${line}\n`).includes(`${line.split(":")[0]}: riprap.yaml:1`)]).toEqual([line, true]);
});

test("loadConfig() gives the defaults when there is no file", () => {
  expect(loadConfig("/nonexistent/riprap.yaml")).toEqual(parseConfig(""));
});

test("parseConfig() refuses a NATS server by WebSocket, and says which port to name", () => {
  expect(refusal("natsServers: tls://a:4222,nats://[::1]:4222\n")).toBe("");
  for (const url of ["ws://a:8080", "wss://a"]) {
    const message = refusal(`natsServers: nats://a:4222,${url}\n`);
    expect(message).toContain(`has "${url}", which is not like nats://host:4222 or tls://host:4222`);
    expect(message).toContain("name the server's port for NATS clients, WebSocket is not spoken");
  }
  expect(refusal("natsServers: http://a\n")).not.toContain("WebSocket");
});
