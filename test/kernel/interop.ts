// What interop tests need: a CA with X509-SVIDs of P-256 made by openssl, and the engine as a process (peer.c).
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildOverEngine } from "./build.ts";

/** One connection as peer.c saw it. */
export interface Connection {
  status: "closed" | "asked" | "done" | "failed";
  suite: string;
  group: string;
  alert: number;
  alertReceived: boolean;
  resumed: boolean;
  helloRetry: boolean;
  alpn: string;
  error: string;
  answer: string;
  closeNotify: boolean;
  updated: boolean;
  lateAlert: number;
  tickets: number;
}

export interface Credentials {
  folder: string;
  ca: string;
  otherCa: string;
  /** `${name}.pem` and `${name}.key` for a, b (of ca), stranger (of otherCa), rsa (of ca). */
  of(name: "a" | "b" | "stranger" | "rsa"): { chain: string; key: string };
  close(): void;
}

export function makeCredentials(): Credentials {
  const folder = mkdtempSync(join(tmpdir(), "riprap-interop-"));
  const path = (file: string) => join(folder, file);
  for (const name of ["ca", "otherCa"])
    openssl(
      "req",
      "-x509",
      ...P256,
      "-nodes",
      "-keyout",
      path(`${name}.key`),
      "-out",
      path(`${name}.pem`),
      "-subj",
      `/CN=${name}`,
      "-days",
      "2",
    );
  for (const [name, issuer] of [
    ["a", "ca"],
    ["b", "ca"],
    ["rsa", "ca"],
    ["stranger", "otherCa"],
  ] as const) {
    const kind = name === "rsa" ? ["-newkey", "rsa:2048"] : P256;
    openssl(
      "req",
      ...kind,
      "-nodes",
      "-keyout",
      path(`${name}.key`),
      "-out",
      path(`${name}.csr`),
      "-subj",
      `/CN=${name}`,
    );
    writeFileSync(
      path("extension"),
      `subjectAltName=URI:spiffe://edge.test/${name},DNS:localhost\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n`,
    );
    openssl(
      "x509",
      "-req",
      "-in",
      path(`${name}.csr`),
      "-CA",
      path(`${issuer}.pem`),
      "-CAkey",
      path(`${issuer}.key`),
      "-CAcreateserial",
      "-days",
      "2",
      "-extfile",
      path("extension"),
      "-out",
      path(`${name}.pem`),
    );
  }
  return {
    folder,
    ca: path("ca.pem"),
    otherCa: path("otherCa.pem"),
    of: (name) => ({ chain: path(`${name}.pem`), key: path(`${name}.key`) }),
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}

const P256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] as const;

function openssl(...args: readonly string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(["openssl", ...args]);
  if (exitCode !== 0) throw new Error(`Cannot run openssl ${args[0]}: ${stderr}`);
}

export type Options = Readonly<Record<string, string | number>>;

function command(role: "client" | "server", port: number, options: Options): string[] {
  const words = Object.entries(options).flatMap(([name, value]) => [name, String(value)]);
  return [buildOverEngine("peer", ["peer.c", "credential.c"]), role, String(port), ...words];
}

/** The engine as a client; one Connection for each connection it made. */
export async function connect(port: number, options: Options): Promise<Connection[]> {
  const child = Bun.spawn(command("client", port, options), { stdout: "pipe", stderr: "pipe" });
  const [text, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0 || errors !== "") throw new Error(`peer client ended with ${code}: ${errors}`);
  return parseLines(text);
}

export interface EngineServer {
  port: number;
  /** After as many connections as it was started for. */
  connections(): Promise<Connection[]>;
}

/** The engine as a server for options.connections connections. */
export async function serve(options: Options): Promise<EngineServer> {
  const child = Bun.spawn(command("server", 0, options), { stdout: "pipe", stderr: "pipe" });
  const reader = child.stdout.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`peer server did not start: ${await new Response(child.stderr).text()}`);
    text += decoder.decode(value);
  }
  const { port } = JSON.parse(text.slice(0, text.indexOf("\n"))) as { port: number };
  text = text.slice(text.indexOf("\n") + 1);
  return {
    port,
    async connections() {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += decoder.decode(value);
      }
      const code = await child.exited;
      if (code !== 0) throw new Error(`peer server ended with ${code}: ${await new Response(child.stderr).text()}`);
      return parseLines(text);
    },
  };
}

function parseLines(text: string): Connection[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Connection);
}
