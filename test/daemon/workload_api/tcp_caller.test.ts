// The Workload API on a loopback port: the kernel's table and open descriptors say who calls, and who cannot be told is refused.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { findTcpSocket, parseTcpTable } from "../../../src/daemon/workload_api/tcp_caller.ts";
import { scratchDirectories } from "../../scratch.ts";
import { type Endpoint, Inbox, identityRule, openClient, openEndpoint, statusOf } from "./endpoint.ts";

const scratch = scratchDirectories();
const PYTHON = "/usr/bin/python3";

describe("openWorkloadApi", () => {
  let endpoint: Endpoint;
  const address = () => `127.0.0.1:${endpoint.api.port}`;

  beforeEach(async () => {
    endpoint = await openEndpoint(scratch(), identityRule("app"), { tcp: { host: "127.0.0.1", port: 0 } });
  });

  afterEach(() => endpoint.close());

  test("openWorkloadApi() serves who connects to its loopback port as who it is, without TLS, and Envoy's secrets not there (E-2, E-4, E-8)", async () => {
    const client = openClient(address());
    const inbox = new Inbox(client.stream("FetchX509SVID"));
    const [svid] = (await inbox.next())["svids"] as [{ spiffe_id: string }];
    expect(svid.spiffe_id).toBe("spiffe://example.org/app");
    endpoint.setRules(identityRule("app", { exe: "/bin/none" }));
    expect((await statusOf(inbox.next())).code).toBe(7);
    client.close();
    const other = openClient(endpoint.path);
    expect((await statusOf(other.unary("FetchJWTSVID", { audience: ["a"] }))).code).toBe(7);
    other.close();
  });

  test.skipIf(!existsSync(PYTHON))(
    "openWorkloadApi() speaks with nobody on a connection that two processes share (E-2; skipped where there is no python3)",
    async () => {
      // The child holds the connection before it is made: no moment in which it is one's alone.
      const program = `import os, socket, sys
s = socket.socket()
r, w = os.pipe()
if os.fork() == 0:
  os.read(r, 1)
  os._exit(0)
s.connect(("127.0.0.1", ${endpoint.api.port}))
s.settimeout(10)
try:
  s.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + b"\\0\\0\\0\\4\\0\\0\\0\\0\\0")
  print(len(s.recv(1)))
except TimeoutError:
  print("nothing came")
except OSError:
  print(0)
os.write(w, b"x")
`;
      // Not spawnSync: the server lives in this process.
      const child = Bun.spawn([PYTHON, "-c", program], { stdout: "pipe" });
      expect(await new Response(child.stdout).text()).toBe("0\n");
    },
  );
});

describe("parseTcpTable", () => {
  const LINE =
    "   1: 0100007F:9C42 0100007F:1F91 01 00000000:00000000 00:00000000 00000000  1000        0 424242 1 0000000000000000 20 4 30 10 -1";
  const HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
  const [peer, own] = [
    { address: "127.0.0.1", port: 0x9c42 },
    { address: "127.0.0.1", port: 0x1f91 },
  ];

  test("parseTcpTable() finds the end that the caller has, by both ends and the state", () => {
    expect(parseTcpTable(`${HEAD}\n${LINE}\n`, peer, own)).toEqual({ inode: "424242", uid: 1000 });
    expect(parseTcpTable(`${HEAD}\n${LINE}\n`, own, peer)).toBeUndefined();
    expect(parseTcpTable(`${HEAD}\n${LINE.replace(" 01 ", " 06 ")}\n`, peer, own)).toBeUndefined();
    expect(parseTcpTable(`${HEAD}\n${LINE.replace("424242", "0")}\n`, peer, own)).toBeUndefined();
    expect(parseTcpTable("", peer, own)).toBeUndefined();
  });

  test("findTcpSocket() refuses a connection that the kernel does not know", () => {
    expect(() => findTcpSocket(peer, { address: "127.0.0.9", port: 9 })).toThrow("no such connection");
  });
});
