// The engine with OpenSSL at the other end, both ways.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { BUILD_MS, build, skipUnlessBuildable } from "./build.ts";
import { type Connection, type Credentials, connect, makeCredentials, type Options, serve } from "./interop.ts";

const WITHIN_MS = 60_000;
const SUITES = {
  "1301": "TLS_AES_128_GCM_SHA256",
  "1302": "TLS_AES_256_GCM_SHA384",
  "1303": "TLS_CHACHA20_POLY1305_SHA256",
};
const GROUPS = { "001d": "X25519", "0017": "P-256" };
const skipped = skipUnlessBuildable("interoperation with OpenSSL") || !Bun.which("openssl");
if (!Bun.which("openssl")) process.stdout.write("skipped: interoperation with OpenSSL: openssl is not installed\n");

let credentials: Credentials;
const MUTUAL = () => ["-CAfile", credentials.ca, "-Verify", "2", "-verify_return_error"];
const own = (name: "a" | "b" | "stranger" | "rsa"): Options => ({ ...credentials.of(name), ca: credentials.ca });

function withServer<T>(args: readonly string[], use: (port: number) => Promise<T>): Promise<T> {
  const { chain, key } = credentials.of("b");
  return withProgram(
    ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", chain, "-key", key, "-rev", ...args],
    use,
  );
}

/** A server that says where it listens as s_server does. */
async function withProgram<T>(command: readonly string[], use: (port: number) => Promise<T>): Promise<T> {
  const child = Bun.spawn([...command], { stdin: "ignore", stdout: "pipe", stderr: "ignore" });
  const reader = child.stdout.getReader();
  try {
    const said = await readUntil(reader, /ACCEPT \S*:(\d+)/);
    // What else it says is thrown away, so that its pipe never fills.
    void (async () => {
      while (!(await reader.read()).done);
    })();
    return await use(Number(said[1]));
  } finally {
    child.kill();
    await child.exited;
  }
}

interface Reader {
  read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>;
}

async function readUntil(reader: Reader, wanted: RegExp) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const found = wanted.exec(text);
    if (found) return found;
    const { value, done } = await reader.read();
    if (done) throw new Error(`ended before ${wanted}: ${text}`);
    text += decoder.decode(value);
  }
}

/** s_client that sends each line once what it waits for has come. */
async function runClient(
  port: number,
  args: readonly string[],
  talk: readonly (readonly [string, RegExp])[],
): Promise<string> {
  const command = ["openssl", "s_client", "-connect", `127.0.0.1:${port}`, ...args];
  // It says KEYUPDATE on standard error: one stream keeps the order.
  const child = Bun.spawn(["sh", "-c", 'exec "$@" 2>&1', "sh", ...command], { stdin: "pipe", stdout: "pipe" });
  const reader = child.stdout.getReader();
  let said = "";
  try {
    for (const [line, answer] of talk) {
      child.stdin.write(`${line}\n`);
      await child.stdin.flush();
      said += (await readUntil(reader, answer)).input;
    }
  } catch (thrown) {
    if (!(thrown instanceof Error)) throw thrown;
    said += thrown.message;
  }
  await child.stdin.end();
  await child.exited;
  return said;
}

const good: Partial<Connection> = { status: "done", alert: 0, error: "", closeNotify: true };

describe.skipIf(skipped)("OpenSSL", () => {
  beforeAll(() => {
    credentials = makeCredentials();
  }, BUILD_MS);
  afterAll(() => credentials.close());

  test(
    "tls13_input() completes, resumes and updates keys when OpenSSL is the server",
    () =>
      withServer([...MUTUAL(), "-tls1_3", "-no_ticket"], async (port) => {
        for (const suite of Object.keys(SUITES)) {
          for (const group of Object.keys(GROUPS)) {
            const options = { ...own("a"), suites: suite, groups: group, connections: 2, update: 1, say: "hello" };
            const [full, again] = await connect(port, options);
            expect(full).toMatchObject({
              ...good,
              suite,
              group,
              answer: "olleh",
              updated: true,
              resumed: false,
              tickets: 2,
            });
            expect(again).toMatchObject({ ...good, suite, group, answer: "olleh", updated: true, resumed: true });
          }
        }
      }),
    BUILD_MS,
  );

  test(
    "tls13_input() resumes when OpenSSL's ticket holds its state",
    () =>
      withServer(["-tls1_3"], async (port) => {
        const [full, again] = await connect(port, { ca: credentials.ca, connections: 2, say: "hello" });
        expect(full).toMatchObject({ ...good, resumed: false, answer: "olleh", tickets: 2 });
        expect(again).toMatchObject({ ...good, resumed: true, answer: "olleh" });
      }),
    WITHIN_MS,
  );

  test(
    "tls13_input() sends a second ClientHello when OpenSSL asks for another group",
    () =>
      withServer([...MUTUAL(), "-tls1_3", "-no_ticket", "-groups", "P-256"], async (port) => {
        const [full, again] = await connect(port, { ...own("a"), connections: 2, say: "hello" });
        expect(full).toMatchObject({ ...good, helloRetry: true, group: "0017", resumed: false, answer: "olleh" });
        expect(again).toMatchObject({ ...good, helloRetry: true, group: "0017", resumed: true, answer: "olleh" });
      }),
    WITHIN_MS,
  );

  test(
    "tls13_input() echoes the cookie when OpenSSL keeps no state",
    async () => {
      const { chain, key } = credentials.of("b");
      const program = build({ name: "stateless", sources: [join(import.meta.dir, "stateless.c")], flags: ["-lssl"] });
      await withProgram([program, chain, key], async (port) => {
        const [full] = await connect(port, { ...own("a"), say: "hello" });
        expect(full).toMatchObject({ ...good, helloRetry: true, group: "001d", answer: "hello" });
      });
    },
    BUILD_MS,
  );

  test(
    "tls13_input() agrees on the protocol when OpenSSL names the same",
    () =>
      withServer([...MUTUAL(), "-tls1_3", "-alpn", "h2,riprap/1"], async (port) => {
        expect((await connect(port, { ...own("a"), alpn: "riprap/1", say: "x" }))[0]).toMatchObject({
          ...good,
          alpn: "riprap/1",
        });
        expect((await connect(port, { ...own("a"), say: "x" }))[0]).toMatchObject({ ...good, alpn: "" });
      }),
    WITHIN_MS,
  );

  test(
    "tls13_input() and OpenSSL refuse one another when a certificate is not trusted or absent",
    () =>
      withServer([...MUTUAL(), "-tls1_3"], async (port) => {
        const stranger = await connect(port, { ...own("stranger"), say: "hello" });
        expect(stranger[0]).toMatchObject({ status: "done", answer: "", lateAlert: 48, closeNotify: false });
        const none = await connect(port, { ca: credentials.ca, say: "hello" });
        expect(none[0]).toMatchObject({ status: "done", answer: "", lateAlert: 116, closeNotify: false });
        const distrustful = await connect(port, { ...own("a"), ca: credentials.otherCa, say: "hello" });
        expect(distrustful[0]).toMatchObject({ status: "failed", alert: 48, alertReceived: false });
      }),
    WITHIN_MS,
  );

  test(
    "tls13_input() refuses OpenSSL when it is to be mutual and OpenSSL asks for no certificate, or for none of ours",
    async () => {
      for (const [asked, args] of Object.entries({
        none: [],
        rsa: ["-Verify", "2", "-client_sigalgs", "RSA-PSS+SHA256"],
      }))
        await withServer(["-tls1_3", ...args], async (port) => {
          const [strict] = await connect(port, { ...own("a"), mutual: 1, say: "hello" });
          expect({ asked, ...strict }).toMatchObject({ asked, status: "failed", alert: 40, alertReceived: false });
        });
      await withServer(["-tls1_3"], async (port) => {
        expect((await connect(port, { ...own("a"), say: "hello" }))[0]).toMatchObject({ ...good, answer: "olleh" });
      });
    },
    WITHIN_MS,
  );

  test(
    "tls13_input() hears protocol_version when OpenSSL speaks TLS 1.2 alone",
    () =>
      withServer(["-tls1_2"], async (port) => {
        expect((await connect(port, own("a")))[0]).toMatchObject({ status: "failed", alert: 70, alertReceived: true });
      }),
    WITHIN_MS,
  );

  test(
    "tls13_input() hears handshake_failure when OpenSSL has no suite in common",
    () =>
      withServer(["-tls1_3", "-ciphersuites", SUITES["1303"]], async (port) => {
        const [refused] = await connect(port, { ...own("a"), suites: "1301" });
        expect(refused).toMatchObject({ status: "failed", alert: 40, alertReceived: true });
      }),
    WITHIN_MS,
  );

  test(
    "tls13_input() completes when OpenSSL is the client, each suite and group",
    async () => {
      const { chain, key } = credentials.of("a");
      const server = await serve({ ...own("b"), mutual: 1, connections: 6 });
      for (const suite of Object.values(SUITES)) {
        for (const group of Object.values(GROUPS)) {
          const args = ["-cert", chain, "-key", key, "-CAfile", credentials.ca, "-verify_return_error"];
          const said = await runClient(
            server.port,
            [...args, "-ciphersuites", suite, "-groups", group],
            [["hello", /echo hello/]],
          );
          expect(said).toContain(`Cipher is ${suite}`);
          expect(said).toContain("Verification: OK");
        }
      }
      const wanted = Object.keys(SUITES).flatMap((suite) =>
        Object.keys(GROUPS).map((group) => ({ ...good, suite, group })),
      );
      expect(await server.connections()).toMatchObject(wanted);
    },
    WITHIN_MS,
  );

  test(
    "tls13_input() resumes, asks again and updates keys when OpenSSL is the client",
    async () => {
      const { chain, key } = credentials.of("a");
      const server = await serve({ ...own("b"), mutual: 1, connections: 3, groups: "17", update: 1 });
      const session = join(credentials.folder, "session");
      const args = ["-cert", chain, "-key", key, "-CAfile", credentials.ca, "-groups", "X25519:P-256"];
      const first = await runClient(
        server.port,
        [...args, "-sess_out", session],
        [
          ["one", /echo one/],
          ["K", /KEYUPDATE/],
          ["two", /echo two/],
        ],
      );
      expect(first).toContain("echo two");
      const again = await runClient(server.port, [...args, "-sess_in", session], [["three", /echo three/]]);
      expect(again).toContain("Reused, TLSv1.3");
      const third = await runClient(server.port, [...args, "-alpn", "h2"], [["four", /echo four/]]);
      expect(third).toContain("No ALPN negotiated");
      expect(await server.connections()).toMatchObject([
        { ...good, helloRetry: true, group: "0017", resumed: false, updated: true },
        { ...good, helloRetry: true, group: "0017", resumed: true },
        { ...good, helloRetry: true, resumed: false },
      ]);
    },
    WITHIN_MS,
  );

  test(
    "tls13_input() tells OpenSSL why when it refuses a client",
    async () => {
      const server = await serve({ ...own("b"), mutual: 1, connections: 5, alpn: "riprap/1", suites: "1301" });
      const pair = (name: "a" | "stranger" | "rsa") => [
        "-cert",
        credentials.of(name).chain,
        "-key",
        credentials.of(name).key,
      ];
      const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
        [[], 116, /alert number 116/],
        [pair("stranger"), 48, /alert number 48/],
        [["-tls1_2"], 70, /alert number 70/],
        [["-alpn", "h2", ...pair("a")], 120, /alert number 120/],
        [["-ciphersuites", SUITES["1302"]], 40, /alert number 40/],
      ];
      for (const [args, , wanted] of cases)
        expect(await runClient(server.port, args, [["x", /echo x/]])).toMatch(wanted);
      expect(await server.connections()).toMatchObject(
        cases.map(([, alert]) => ({ status: "failed", alert, alertReceived: false })),
      );
    },
    WITHIN_MS,
  );

  test(
    "tls13_input() refuses when the client's key is RSA, which it never offered",
    async () => {
      const server = await serve({ ...own("b"), mutual: 1 });
      const { chain, key } = credentials.of("rsa");
      const said = await runClient(server.port, ["-cert", chain, "-key", key], [["x", /echo x/]]);
      expect(said).toMatch(/alert number (116|43)/);
      expect(await server.connections()).toMatchObject([{ status: "failed", alertReceived: false }]);
    },
    WITHIN_MS,
  );
});
