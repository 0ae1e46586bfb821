// Hostile clients: by python's gRPC where it is installed, and by raw HTTP/2. Whoever else calls must not notice.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { readFields, readText } from "../../../src/daemon/workload_api/protobuf.ts";
import { scratchDirectories } from "../../scratch.ts";
import { type Endpoint, Inbox, identityRule, openClient, openEndpoint, type WorkloadClient } from "./endpoint.ts";

const scratch = scratchDirectories();
const PYTHON = "/usr/bin/python3";
const hasGrpcio = Bun.which(PYTHON) !== null && Bun.spawnSync([PYTHON, "-c", "import grpc"]).exitCode === 0;

/** What all of it may cost, a client and its answers in this same process included. */
const GROWTH_MAX = 200 << 20;

let endpoint: Endpoint;
let client: WorkloadClient;

beforeEach(async () => {
  const python = Bun.spawnSync(["readlink", "-f", PYTHON]).stdout.toString().trim();
  const rules = `${identityRule("app")}---\n${identityRule("abuser", { exe: python === "" ? "/none" : python })}`;
  endpoint = await openEndpoint(scratch(), rules);
  client = openClient(endpoint.path);
});

afterEach(async () => {
  client.close();
  await endpoint.close();
});

describe("python3-grpcio", () => {
  test.skipIf(!hasGrpcio)(
    "the Workload API answers each misdeed with its status, and others meanwhile (E-3, E-9, E-12; skipped where python3-grpcio is not installed)",
    async () => {
      const child = Bun.spawn([PYTHON, join(import.meta.dir, "abuse.py"), endpoint.path], {
        stdin: "ignore",
        stdout: "pipe",
        stderr: "inherit",
      });
      let isDone = false;
      const ended = child.exited.then(() => {
        isDone = true;
      });
      let worstMs = 0;
      const memory = [process.memoryUsage.rss()];
      while (!isDone) {
        const begun = performance.now();
        await client.unary("FetchJWTSVID", { audience: ["a"] });
        worstMs = Math.max(worstMs, performance.now() - begun);
        memory.push(process.memoryUsage.rss());
        await Bun.sleep(5);
      }
      await ended;
      expect(Math.max(...memory) - (memory[0] ?? 0)).toBeLessThan(GROWTH_MAX);
      const { "half open": kept, ...report } = JSON.parse(await new Response(child.stdout).text());
      expect(report).toEqual({
        good: ["OK", "OK"],
        "no header": ["INVALID_ARGUMENT", "INVALID_ARGUMENT"],
        "header twice": ["INVALID_ARGUMENT"],
        "header in capitals": ["INVALID_ARGUMENT"],
        "cut short": ["INVALID_ARGUMENT", "INVALID_ARGUMENT"],
        "no UTF-8": ["INVALID_ARGUMENT"],
        "too large": ["RESOURCE_EXHAUSTED"],
        "unknown call": ["UNIMPLEMENTED", "UNIMPLEMENTED"],
        // SERVING; and a service that is not there.
        health: ["0801", "0801", "NOT_FOUND", "INVALID_ARGUMENT"],
        "compressed bomb": ["RESOURCE_EXHAUSTED"],
        // Cut off long before its end.
        "endless header": true,
        afterwards: ["OK", "OK"],
      });
      // 64 connections of one process; two of them are its channels.
      expect(kept).toBeGreaterThan(0);
      expect(kept).toBeLessThanOrEqual(64);
      expect(worstMs).toBeLessThan(5000);
    },
  );
});

/** Enough of HTTP/2 to open one call: literal headers (RFC 7541 section 6.2.2), an empty message, and silence. */
function openRaw(path: string, method: string): Socket {
  const text = (value: string) => Buffer.concat([Buffer.of(value.length), Buffer.from(value)]);
  const header = (name: string, value: string) => Buffer.concat([Buffer.of(0), text(name), text(value)]);
  const frame = (type: number, flags: number, stream: number, payload: Buffer) => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head.set([type, flags], 3);
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, payload]);
  };
  const headers = [
    header(":method", "POST"),
    header(":scheme", "http"),
    header(":path", `/SpiffeWorkloadAPI/${method}`),
    header(":authority", "localhost"),
    header("content-type", "application/grpc"),
    header("te", "trailers"),
    header("workload.spiffe.io", "true"),
  ];
  const socket = connect(path);
  socket.write(
    Buffer.concat([
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
      frame(4, 0, 0, Buffer.alloc(0)),
      frame(1, 4, 1, Buffer.concat(headers)),
      frame(0, 1, 1, Buffer.alloc(5)),
    ]),
  );
  return socket;
}

/** The gRPC messages in what a server sent on stream 1. */
function messagesOf(bytes: Buffer): Buffer[] {
  const data: Buffer[] = [];
  for (let at = 0; at + 9 <= bytes.length; ) {
    const length = bytes.readUIntBE(at, 3);
    if (at + 9 + length > bytes.length) break;
    if (bytes[at + 3] === 0) data.push(bytes.subarray(at + 9, at + 9 + length));
    at += 9 + length;
  }
  const all = Buffer.concat(data);
  const messages: Buffer[] = [];
  for (let at = 0; at + 5 <= all.length; ) {
    const length = all.readUInt32BE(at + 1);
    if (at + 5 + length > all.length) break;
    messages.push(all.subarray(at + 5, at + 5 + length));
    at += 5 + length;
  }
  return messages;
}

describe("a slow reader", () => {
  test("a stream that is not read holds one message and not all of them, and has the last one in the end (A-5)", async () => {
    const socket = openRaw(endpoint.path, "FetchX509SVID");
    const received: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => received.push(chunk));
    const inbox = new Inbox(client.stream("FetchX509SVID"));
    const ROUNDS = 200;
    await inbox.next();
    for (let round = 1; round <= ROUNDS; round++) {
      endpoint.setRules(identityRule(`app-${round}`));
      // Another stream of the same process has it; the raw one has its window of 64 KiB and grants no more.
      await inbox.next();
    }
    const before = messagesOf(Buffer.concat(received)).length;
    expect(before).toBeLessThan(ROUNDS / 2);
    // A larger window, for the stream and for the connection.
    const grant = Buffer.from("000004080000000000007fffff" + "000004080000000001007fffff", "hex");
    socket.write(grant);
    const idOf = (message: Buffer | undefined) => {
      const [svid] = readFields(message ?? Buffer.alloc(0));
      const [id] = readFields(svid?.bytes ?? Buffer.alloc(0));
      return readText(id?.bytes ?? Buffer.alloc(0));
    };
    for (;;) {
      const messages = messagesOf(Buffer.concat(received));
      if (idOf(messages.at(-1)) === `spiffe://example.org/app-${ROUNDS}`) {
        expect(messages.length).toBeLessThan(ROUNDS / 2 + 40);
        break;
      }
      await Bun.sleep(5);
    }
    inbox.cancel();
    socket.destroy();
  });
});
