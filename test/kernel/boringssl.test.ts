// The engine with Bun's own TLS (BoringSSL) at the other end, both ways, in this process.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { connect as connectTls, createServer, type TLSSocket } from "node:tls";
import { BUILD_MS, skipUnlessBuildable } from "./build.ts";
import { type Connection, type Credentials, connect, makeCredentials, serve } from "./interop.ts";

const WITHIN_MS = 60_000;
const skipped = skipUnlessBuildable("interoperation with BoringSSL") || !Bun.which("openssl");
if (!Bun.which("openssl"))
  process.stdout.write(
    "skipped: interoperation with BoringSSL: openssl, which makes the certificates, is not installed\n",
  );

let credentials: Credentials;
const good: Partial<Connection> = { status: "done", alert: 0, error: "" };

function material(name: "a" | "b" | "stranger") {
  const { chain, key } = credentials.of(name);
  return { cert: readFileSync(chain), key: readFileSync(key), ca: readFileSync(credentials.ca) };
}

async function withServer<T>(use: (port: number, peers: readonly string[]) => Promise<T>): Promise<T> {
  const peers: string[] = [];
  const server = createServer(
    {
      ...material("b"),
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: "TLSv1.3",
      ALPNProtocols: ["riprap/1"],
    },
    (socket: TLSSocket) => {
      peers.push(String(socket.getPeerCertificate().subject?.CN));
      socket.on("error", () => {});
      socket.on("data", (data) => socket.write(`echo ${data}`));
      socket.on("end", () => socket.end());
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await use((server.address() as AddressInfo).port, peers);
  } finally {
    server.close();
  }
}

/** One line to the engine and its answer, or the error's text. */
function talk(port: number, name: "a" | "stranger" | undefined, ca = credentials.ca): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connectTls({
    port,
    host: "127.0.0.1",
    ...(name === undefined ? {} : material(name)),
    ca: readFileSync(ca),
    servername: "localhost",
    minVersion: "TLSv1.3",
    ALPNProtocols: ["riprap/1"],
  });
  socket.on("secureConnect", () => socket.write("hello\n"));
  socket.on("data", (data) => {
    resolve(`${socket.getProtocol()} ${socket.alpnProtocol} ${data.toString().trim()}`);
    socket.end();
  });
  socket.on("error", (error) => resolve(`error ${error.message}`));
  socket.on("close", () => resolve("closed"));
  return promise;
}

describe.skipIf(skipped)("BoringSSL", () => {
  beforeAll(() => {
    credentials = makeCredentials();
  }, BUILD_MS);
  afterAll(() => credentials.close());

  test(
    "tls13_input() completes when BoringSSL is the server, each suite and group",
    () =>
      withServer(async (port, peers) => {
        const options = { ...credentials.of("a"), ca: credentials.ca, say: "hello", alpn: "riprap/1" };
        for (const suites of ["1301", "1302", "1303"]) {
          for (const groups of ["1d", "17"]) {
            const [connection] = await connect(port, { ...options, suites, groups });
            expect(connection).toMatchObject({
              ...good,
              suite: suites,
              group: `00${groups}`,
              alpn: "riprap/1",
              answer: "echo hello",
            });
          }
        }
        expect(peers).toEqual(Array.from({ length: 6 }, () => "a"));
      }),
    BUILD_MS,
  );

  test(
    "tls13_input() refuses and is refused when BoringSSL is the server and trust is missing",
    () =>
      withServer(async (port) => {
        const [none] = await connect(port, { ca: credentials.ca, say: "hello" });
        expect(none?.answer).toBe("");
        const [stranger] = await connect(port, { ...credentials.of("stranger"), ca: credentials.ca, say: "hello" });
        expect(stranger?.answer).toBe("");
        const [distrustful] = await connect(port, { ...credentials.of("a"), ca: credentials.otherCa, say: "hello" });
        expect(distrustful).toMatchObject({ status: "failed", alert: 48, alertReceived: false });
      }),
    WITHIN_MS,
  );

  test(
    "tls13_input() completes when BoringSSL is the client, with and without a second hello",
    async () => {
      const options = { ...credentials.of("b"), ca: credentials.ca, mutual: 1, alpn: "riprap/1" };
      for (const suites of ["1301", "1302", "1303"]) {
        for (const groups of ["1d", "17"]) {
          const server = await serve({ ...options, suites, groups });
          expect(await talk(server.port, "a")).toBe("TLSv1.3 riprap/1 echo hello");
          expect(await server.connections()).toMatchObject([
            { ...good, suite: suites, group: `00${groups}`, helloRetry: groups === "17", alpn: "riprap/1" },
          ]);
        }
      }
    },
    WITHIN_MS,
  );

  test(
    "tls13_input() refuses when BoringSSL is the client and has no certificate or a stranger's",
    async () => {
      const server = await serve({ ...credentials.of("b"), ca: credentials.ca, mutual: 1, connections: 3 });
      expect(await talk(server.port, undefined)).not.toContain("echo");
      expect(await talk(server.port, "stranger")).not.toContain("echo");
      expect(await talk(server.port, "a", credentials.otherCa)).not.toContain("echo");
      expect(await server.connections()).toMatchObject([
        { status: "failed", alert: 116, alertReceived: false },
        { status: "failed", alert: 48, alertReceived: false },
        // Bun judges the chain itself and hangs up without an alert.
        { status: "closed" },
      ]);
    },
    WITHIN_MS,
  );
});
