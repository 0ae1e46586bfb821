// The routes of the control API that are about the fleet. Decides nothing: every answer is the port's.

import type { Hono } from "hono";
import { RiprapError } from "../../error.ts";
import { tryParseTarget } from "../../fleet.ts";
import { isJsonObject, type JsonValue, parseJson } from "../../json.ts";
import type { FleetPort } from "../fleet/port.ts";
import { APPLY_BYTES_MAX, parseCount, parseFlag, parseText, readBody } from "./request.ts";

const TOKEN_BYTES_MAX = 16_384;

export function addFleetRoutes(app: Hono, port: FleetPort): void {
  app.get("/v1/fleet/status", (c) => c.json(port.status()));
  app.get("/v1/fleet/log", (c) => c.json(port.log(parseCount(c.req.query("limit")))));
  app.post("/v1/fleet/converge", async (c) => c.json(await port.converge()));
  app.post("/v1/fleet/renew", async (c) => c.json(await port.renew()));
  app.get("/v1/fleet/nats-config", (c) => {
    const hasStore = parseFlag(c.req.query("jetstream"));
    const hasEnrolment = !parseFlag(c.req.query("closed"));
    const isAccountAlone = parseFlag(c.req.query("account"));
    const imports = (c.req.query("import") ?? "").split(",").filter((name) => name !== "");
    return c.text(port.natsConfig({ hasStore, hasEnrolment, isAccountAlone, imports }));
  });
  app.get("/v1/fleet/revision", (c) => {
    const kind = parseText(c.req.query("kind"), "kind");
    return c.json({ revision: port.nextRevision(kind, parseText(c.req.query("name"), "name")) });
  });
  app.post("/v1/fleet/check", async (c) => {
    const name = parseText(c.req.query("name"), "name");
    return c.json(port.check({ name, text: await readBody(c.req.raw, APPLY_BYTES_MAX) }));
  });
  app.post("/v1/fleet/statements", async (c) => {
    const value = parseJson(await readBody(c.req.raw, APPLY_BYTES_MAX));
    return c.json(port.take(parseTexts(value)));
  });
  app.post("/v1/fleet/revoke", (c) => {
    const text = parseText(c.req.query("target"), "target");
    const target = tryParseTarget(text);
    if (target === undefined) throw invalid("its target is nothing that can be revoked");
    return c.json({ target: text, statement: port.revoke(target, c.req.query("reason") ?? "") });
  });
  addAdmission(app, port);
}

function addAdmission(app: Hono, port: FleetPort): void {
  app.get("/v1/fleet/tokens", (c) => c.json(port.tokens()));
  app.post("/v1/fleet/tokens", async (c) => {
    const value = parseJson(await readBody(c.req.raw, TOKEN_BYTES_MAX));
    return c.json(port.createToken(parseTokenRequest(value)));
  });
  app.get("/v1/fleet/pending", (c) => c.json(port.pending()));
  app.post("/v1/fleet/decide", (c) => {
    const node = parseText(c.req.query("node"), "node");
    const isApproved = parseFlag(c.req.query("approve"));
    port.decide(node, isApproved ? "approved" : "denied");
    return c.json({ node, decision: isApproved ? "approved" : "denied" });
  });
}

function parseTexts(value: JsonValue): readonly string[] {
  if (Array.isArray(value) && value.every((item): item is string => typeof item === "string")) return value;
  throw invalid("it is no list of statements");
}

function parseTokenRequest(value: JsonValue): Parameters<FleetPort["createToken"]>[0] {
  if (!isJsonObject(value)) throw invalid("it is no JSON object");
  const text = (name: string) => (typeof value[name] === "string" ? (value[name] as string) : undefined);
  const texts = (name: string) => (value[name] === undefined ? [] : parseTexts(value[name] as JsonValue));
  const lifetimeMs = value["lifetimeMs"];
  const servers = texts("servers");
  const credentials = text("brokerCredentials");
  return {
    admission: {
      nodeName: text("nodeName"),
      group: text("group") ?? "default",
      idPrefixes: texts("idPrefixes"),
      needsApproval: value["needsApproval"] === true,
      mayReplace: value["mayReplace"] === true,
    },
    lifetimeMs: typeof lifetimeMs === "number" ? lifetimeMs : 0,
    ...(servers.length > 0 ? { servers } : {}),
    ...(credentials === undefined ? {} : { credentials }),
  };
}

function invalid(fact: string): RiprapError {
  return new RiprapError("invalid", `Cannot read the request: ${fact}`);
}
