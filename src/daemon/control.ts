// The daemon's control API: the hono application over ControlPort, and how it is served. It decides nothing: every answer is the port's.

import { Hono } from "hono";
import { describeError, RiprapError } from "../error.ts";
import { ERROR_STATUS } from "./control/failure.ts";
import { type ControlListener, listenOnUnixSocket } from "./control/listener.ts";
import { toNdjson } from "./control/ndjson.ts";
import type { ControlPort } from "./control/port.ts";
import { APPLY_BYTES_MAX, parseCount, parseFlag, parsePid, parseText, parseWait, readBody } from "./control/request.ts";

export interface ControlAppOptions {
  /** Told of what is no RiprapError: our own bugs. The client only hears `internal`. */
  readonly onBug?: (thrown: unknown) => void;
  /** Of rooms that have a port of their own. */
  readonly routes?: readonly ((app: Hono) => void)[];
}

/** The routes of the control API; failures are JSON `{ code, message }` with the status of their code. */
export function createControlApp(port: ControlPort, options: ControlAppOptions = {}): Hono {
  const app = new Hono();
  addViews(app, port);
  addQuestions(app, port);
  addChanges(app, port);
  for (const add of options.routes ?? []) add(app);
  app.notFound((c) =>
    c.json({ code: "not_found", message: `Cannot answer ${c.req.method} ${c.req.path}: no such route` }, 404),
  );
  app.onError((thrown, c) => {
    if (thrown instanceof RiprapError) {
      return c.json({ code: thrown.code, message: thrown.message }, ERROR_STATUS[thrown.code] ?? 422);
    }
    options.onBug?.(thrown);
    const message = `Cannot answer ${c.req.method} ${c.req.path}: the daemon failed (${describeError(thrown)}); its log has the whole of it`;
    return c.json({ code: "internal", message }, 500);
  });
  return app;
}

/** Serves the app on a Unix socket that only its owner may open. Throws RiprapError `control_socket`. */
export function openControl(
  port: ControlPort,
  options: ControlAppOptions & { readonly path: string },
): Promise<ControlListener> {
  const app = createControlApp(port, options);
  return listenOnUnixSocket(options.path, (request) => app.fetch(request));
}

function addViews(app: Hono, port: ControlPort): void {
  app.get("/v1/status", (c) => c.json(port.status()));
  app.get("/v1/processes", (c) => c.json(port.processes({ all: parseFlag(c.req.query("all")) })));
  app.get("/v1/resources", (c) => c.json(port.resources(c.req.query("kind"))));
  app.get("/metrics", (c) => c.text(port.metrics(), 200, { "content-type": "text/plain; version=0.0.4" }));
  app.get("/v1/flows", (c) => {
    const selection = { live: parseFlag(c.req.query("live")), broken: parseFlag(c.req.query("broken")) };
    if (parseFlag(c.req.query("follow"))) {
      return c.body(
        toNdjson((signal) => port.followFlows(signal), c.req.raw.signal),
        200,
        {
          "content-type": "application/x-ndjson",
        },
      );
    }
    return c.json(port.flows({ ...selection, limit: parseCount(c.req.query("limit")) }));
  });
}

function addQuestions(app: Hono, port: ControlPort): void {
  app.get("/v1/attest/:pid", async (c) => c.json(await port.attest(parsePid(c.req.param("pid")))));
  app.get("/v1/generate/:pid", async (c) =>
    c.text(await port.generate(parsePid(c.req.param("pid")), c.req.query("id")), 200, {
      "content-type": "application/yaml",
    }),
  );
  app.get("/v1/explain", async (c) => {
    const from = parseText(c.req.query("from"), "from");
    const to = parseText(c.req.query("to"), "to");
    return c.json(await port.explain({ from, to, inbound: parseFlag(c.req.query("inbound")) }));
  });
  app.get("/v1/ready", async (c) => {
    const waitMs = parseWait(c.req.query("wait_ms"));
    const limit = AbortSignal.any([c.req.raw.signal, AbortSignal.timeout(waitMs)]);
    try {
      await port.waitReady(limit);
    } catch (thrown) {
      if (!limit.aborted) throw thrown;
    }
    if (port.status().ready) return c.json({ ready: true });
    throw new RiprapError("not_ready", notReady(port, waitMs));
  });
}

function addChanges(app: Hono, port: ControlPort): void {
  app.post("/v1/apply", async (c) => {
    const name = parseText(c.req.query("name"), "name");
    const text = await readBody(c.req.raw, APPLY_BYTES_MAX);
    return c.json(await port.apply({ name, text }));
  });
  app.post("/v1/remove", async (c) => {
    const kind = parseText(c.req.query("kind"), "kind");
    return c.json(await port.remove(kind, parseText(c.req.query("name"), "name")));
  });
  app.post("/v1/drain", async (c) => c.json({ live: await port.drain(c.req.query("on") !== "0") }));
}

function notReady(port: ControlPort, waitMs: number): string {
  const { rules, trust, planeReason } = port.status();
  const facts = [
    `rules ${rules.applied} of ${rules.desired} applied${rules.error === undefined ? "" : ` (${rules.error})`}`,
    `trust ${trust.applied} of ${trust.desired} applied${trust.error === undefined ? "" : ` (${trust.error})`}`,
    ...(planeReason === undefined ? [] : [planeReason]),
  ];
  return `Cannot say ready after ${waitMs} ms: ${facts.join("; ")}`;
}
