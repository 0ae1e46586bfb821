// The routes of the control API over a fake port, without a listener.

import { describe, expect, test } from "bun:test";
import { APPLY_BYTES_MAX } from "../../src/daemon/control/request.ts";
import { createControlApp } from "../../src/daemon/control.ts";
import { RiprapError } from "../../src/error.ts";
import { FLOW, fakePort, STATUS } from "./control/fake_port.ts";

async function failure(
  response: Response | Promise<Response>,
): Promise<{ status: number; code: string; message: string }> {
  const got = await response;
  return { status: got.status, ...((await got.json()) as { code: string; message: string }) };
}

describe("createControlApp", () => {
  test("createControlApp() answers each view of the port as JSON", async () => {
    const port = fakePort();
    const app = createControlApp(port);
    expect(await (await app.request("/v1/status")).json()).toEqual(STATUS);
    expect(await (await app.request("/v1/processes?all=1")).json()).toEqual([]);
    expect(await (await app.request("/v1/flows?live=1&limit=5")).json()).toEqual([FLOW]);
    expect((await app.request("/v1/resources?kind=Service")).status).toBe(200);
    expect((await app.request("/v1/attest/7")).status).toBe(200);
    expect(await (await app.request("/v1/generate/7?id=web")).text()).toBe("kind: WorkloadIdentity\n");
    expect((await app.request("/v1/explain?from=7&to=web")).status).toBe(200);
    expect(await (await app.request("/metrics")).text()).toContain("riprap_flows_live 1");
    expect(await (await app.request("/v1/drain?on=0", { method: "POST" })).json()).toEqual({ live: 2 });
    expect(port.calls).toEqual([
      'processes({"all":true})',
      'flows({"live":true,"broken":false,"limit":5})',
      'resources("Service")',
      "attest(7)",
      'generate(7, "web")',
      'explain({"from":"7","to":"web","inbound":false})',
      "drain(false)",
    ]);
  });

  test("createControlApp() hands the document's text and name to apply", async () => {
    const port = fakePort();
    const response = await createControlApp(port).request("/v1/apply?name=a.yaml", {
      method: "POST",
      body: "kind: Service\n",
    });
    expect(await response.json()).toEqual({ generation: 4, written: ["Service/web"], warnings: [] });
    expect(port.calls).toEqual(['apply({"name":"a.yaml","text":"kind: Service\\n"})']);
  });

  test.each([
    ["/v1/flows?limit=0", 400, "invalid"],
    ["/v1/flows?limit=1e3", 400, "invalid"],
    ["/v1/flows?limit=99999", 400, "invalid"],
    ["/v1/flows?live=perhaps", 400, "invalid"],
    ["/v1/flows?broken=perhaps", 400, "invalid"],
    ["/v1/attest/0", 400, "invalid"],
    ["/v1/attest/-1", 400, "invalid"],
    ["/v1/attest/7x", 400, "invalid"],
    ["/v1/attest/99999999999", 400, "invalid"],
    ["/v1/attest/404", 404, "not_found"],
    ["/v1/explain?from=7", 400, "invalid"],
    [`/v1/explain?from=${"x".repeat(3000)}&to=web`, 400, "invalid"],
    ["/v1/ready?wait_ms=900000", 400, "invalid"],
    ["/v1/nothing", 404, "not_found"],
    ["/", 404, "not_found"],
  ])("createControlApp() refuses %s with %i %s", async (path, status, code) => {
    const got = await failure(createControlApp(fakePort()).request(path));
    expect({ status: got.status, code: got.code }).toEqual({ status, code });
    expect(got.message).toStartWith("Cannot ");
  });

  test("createControlApp() refuses a document that is too large, whatever length it announces", async () => {
    const port = fakePort();
    const app = createControlApp(port);
    const large = "x".repeat(APPLY_BYTES_MAX + 1);
    expect((await failure(app.request("/v1/apply?name=a", { method: "POST", body: large }))).status).toBe(413);
    const stream = new Blob([large]).stream();
    expect((await failure(app.request("/v1/apply?name=a", { method: "POST", body: stream }))).status).toBe(413);
    expect(port.calls).toEqual([]);
  });

  test("createControlApp() refuses a document that is not UTF-8", async () => {
    const body = Uint8Array.of(0x6b, 0xff, 0xfe);
    expect(
      await failure(createControlApp(fakePort()).request("/v1/apply?name=a", { method: "POST", body })),
    ).toMatchObject({ status: 415, code: "not_utf8" });
  });

  test("createControlApp() keeps the code of a refusal it does not know, and the sentence of a bug with 500", async () => {
    const bugs: unknown[] = [];
    const port = fakePort({
      apply: () => Promise.reject(new RiprapError("resource_invalid", "Cannot use web.yaml:3: no such kind")),
      explain: () => Promise.reject(new TypeError("undefined is not a function")),
    });
    const app = createControlApp(port, { onBug: (thrown) => bugs.push(thrown) });
    expect(await failure(app.request("/v1/apply?name=a", { method: "POST", body: "" }))).toEqual({
      status: 422,
      code: "resource_invalid",
      message: "Cannot use web.yaml:3: no such kind",
    });
    expect(await failure(app.request("/v1/explain?from=1&to=b"))).toMatchObject({ status: 500, code: "internal" });
    expect(bugs).toHaveLength(1);
  });

  test("createControlApp() says what is missing when it is not ready in time", async () => {
    const port = fakePort({
      status: () => ({
        ...STATUS,
        ready: false,
        rules: { desired: 4, applied: 3, error: "the module refused the table" },
      }),
      waitReady: (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    });
    const got = await failure(createControlApp(port).request("/v1/ready?wait_ms=1"));
    expect(got).toMatchObject({ status: 503, code: "not_ready" });
    expect(got.message).toContain("rules 3 of 4 applied (the module refused the table)");
  });

  test("createControlApp() ends a followed stream's source when its reader goes", async () => {
    let ended = false;
    const port = fakePort({
      async *followFlows(signal) {
        try {
          yield FLOW;
          if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
        } finally {
          ended = true;
        }
      },
    });
    const response = await createControlApp(port).request("/v1/flows?follow=1");
    const reader = response.body?.getReader();
    const decoder = new TextDecoder();
    let text = "";
    while (!text.trimStart().includes("\n")) text += decoder.decode((await reader?.read())?.value);
    expect(JSON.parse(text)).toEqual(FLOW);
    await reader?.cancel();
    expect(ended).toBe(true);
  });
});
