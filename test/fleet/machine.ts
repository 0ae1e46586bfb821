// One machine of a test of the commands: its configuration, its daemon in this process and the person at it; and credentials as a NATS account gives them.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { nkeys } from "nats";
import { runCli } from "../../src/cli.ts";
import { parseConfig } from "../../src/daemon/config.ts";
import type { FleetStatusView } from "../../src/daemon/fleet/port.ts";
import { type Daemon, startDaemon } from "../../src/daemon.ts";
import { RiprapError } from "../../src/error.ts";
import { type FakeTerminal, fakeTerminal } from "../cli/fake_terminal.ts";

const PATIENCE_MS = 20_000;

export interface Ran {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

export class Machine {
  readonly folder: string;
  readonly config: string;
  #daemon: Daemon | undefined;

  constructor(folder: string, settings: Readonly<Record<string, string>>) {
    this.folder = folder;
    mkdirSync(join(folder, "rules"), { recursive: true });
    mkdirSync(join(folder, "state"), { mode: 0o700 });
    this.config = join(folder, "riprap.yaml");
    const all = {
      stateDir: join(folder, "state"),
      rulesDir: join(folder, "rules"),
      controlSocket: join(folder, "control.sock"),
      ...{ workloadApi: "false", keyCustody: "file", ...settings },
    };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\n`);
    writeFileSync(this.config, lines.join(""));
  }

  async cli(argv: readonly string[], terminal: FakeTerminal = fakeTerminal()): Promise<Ran> {
    const status = await runCli([...argv, "--config", this.config], terminal);
    return { status, out: terminal.out.join("\n"), err: terminal.err.join("\n") };
  }

  /** What a command prints as JSON, when it does what it is asked. */
  async json<T>(...argv: string[]): Promise<T> {
    const { status, out, err } = await this.cli([...argv, "--json"]);
    if (status !== 0) throw new Error(`riprap ${argv.join(" ")}: ${err}`);
    return JSON.parse(out) as T;
  }

  async start(): Promise<void> {
    this.#daemon = await startDaemon(parseConfig(readFileSync(this.config, "utf8")), {
      watch: false,
      environment: {},
      openDevice: () => {
        throw new RiprapError("ENOENT", "there is no module here");
      },
      writeLog: () => undefined,
    });
  }

  async stop(): Promise<void> {
    await this.#daemon?.stop();
    this.#daemon = undefined;
  }
}

export async function until(on: Machine, holds: (view: FleetStatusView) => boolean): Promise<FleetStatusView> {
  for (const end = performance.now() + PATIENCE_MS; ; await Bun.sleep(30)) {
    const view = await on.json<FleetStatusView>("fleet", "status");
    if (holds(view)) return view;
    if (performance.now() > end) throw new Error(`never came true: ${JSON.stringify(view)}`);
  }
}

/** With the token on standard input, as other users cannot see it. */
export function joinWith(on: Machine, name: string, token: string, terminal = fakeTerminal(token)): Promise<Ran> {
  return on.cli(["join", "-", "--node", name], terminal);
}

export type Pair = ReturnType<typeof nkeys.createUser>;

/** A JWT of NATS: signed by the issuer's nkey about the subject's. */
export function claim(issuer: Pair, subject: Pair, body: Readonly<Record<string, unknown>>): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const iat = Math.floor(Date.now() / 1000);
  const [iss, sub] = [issuer.getPublicKey(), subject.getPublicKey()];
  const head = part({ typ: "JWT", alg: "ed25519-nkey" });
  const signed = `${head}.${part({ jti: sub, iat, iss, sub, name: "a test", nats: { ...body, version: 2 } })}`;
  return `${signed}.${Buffer.from(issuer.sign(Buffer.from(signed))).toString("base64url")}`;
}

/** The file that `nsc` would write. */
export function credentials(jwt: string, seed: string): string {
  return `-----BEGIN NATS USER JWT-----\n${jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`;
}
