// Starts real nats-server processes on the loopback: one, a cluster, a leaf of another, with or without JetStream and TLS. Ends what it started.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const NATS_SERVER = Bun.which("nats-server") ?? Bun.which("nats-server", { PATH: "/usr/sbin:/usr/local/bin" });
const READY_MS = 30_000;

export interface NatsServer {
  readonly url: string;
  readonly port: number;
  readonly pid: number | undefined;
  start(): Promise<void>;
  /** Ends it as a crash would; start() brings it back at its place, with what it had stored. */
  kill(): Promise<void>;
  /** Takes another text in the place of `config`: now, as an operator would have it do, or with its next start. */
  reload(config: string): Promise<void>;
  /** What it wrote down since it was made. */
  log(): Promise<string>;
}

export interface ServerOptions {
  /** Added to the configuration: authorization, accounts. */
  readonly config?: string;
  readonly jetstream?: boolean;
  readonly tls?: ServerTls;
  /** Leaf of the server with this leaf port. */
  readonly leafOf?: number;
  readonly leafPort?: number;
}

export interface ServerTls {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

export interface NatsPark {
  /** One server that runs. */
  single(options?: ServerOptions): Promise<NatsServer>;
  /** Three of one cluster that run. */
  cluster(options?: ServerOptions): Promise<readonly NatsServer[]>;
  readonly folder: string;
  leave(): Promise<void>;
}

export function openPark(): NatsPark {
  const folder = mkdtempSync(join(tmpdir(), "riprap-nats-"));
  const servers: LocalServer[] = [];
  const add = (name: string, port: number, parts: readonly string[], options: ServerOptions): LocalServer => {
    const server = new LocalServer(join(folder, name), port, {
      parts: [...parts, ...partsOf(options, join(folder, name))],
      config: options.config ?? "",
    });
    servers.push(server);
    return server;
  };
  return {
    folder,
    async single(options = {}) {
      const server = add(`server-${servers.length}`, freePort(), [], options);
      await server.start();
      return server;
    },
    async cluster(options = {}) {
      const ports = [freePort(), freePort(), freePort()];
      const routes = ports.map((port) => `nats://127.0.0.1:${port}`).join(", ");
      const some = ports.map((port, i) =>
        add(
          `member-${servers.length + i}`,
          freePort(),
          [`cluster { name: park, listen: "127.0.0.1:${port}", routes: [${routes}] }`],
          options,
        ),
      );
      await Promise.all(some.map((server) => server.start()));
      return some;
    },
    async leave() {
      await Promise.all(servers.map((server) => server.kill()));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A port that nobody has now; a stranger may take it, which on a test's loopback nobody does. */
export function freePort(): number {
  for (;;) {
    const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { port } = listener;
    listener.stop(true);
    if (given.has(port)) continue;
    given.add(port);
    return port;
  }
}

/** The kernel may draw a port a second time before a server has it. */
const given = new Set<number>();

/** A CA of the test's own and a server certificate for 127.0.0.1 and localhost, by OpenSSL. */
export async function makeServerTls(folder: string): Promise<ServerTls & { readonly caText: string }> {
  mkdirSync(folder, { recursive: true });
  const at = (name: string) => join(folder, name);
  writeFileSync(at("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
  const key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -batch";
  const steps = [
    `openssl req -x509 ${key} -keyout ca.key -out ca.pem -subj /CN=park -days 2`,
    `openssl req -new ${key} -keyout server.key -out server.csr -subj /CN=localhost`,
    "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
  ];
  for (const step of steps) {
    const { exitCode, stderr } = Bun.spawnSync(step.split(" "), { cwd: folder, stdout: "ignore", stderr: "pipe" });
    if (exitCode !== 0) throw new Error(`${step}: ${stderr}`);
  }
  return {
    ca: at("ca.pem"),
    certificate: at("server.pem"),
    key: at("server.key"),
    caText: await Bun.file(at("ca.pem")).text(),
  };
}

function partsOf({ jetstream = false, tls, leafOf, leafPort }: ServerOptions, folder: string): string[] {
  return [
    ...(jetstream ? [`jetstream { store_dir: "${folder}/store", max_mem: 64M, max_file: 256M }`] : []),
    ...(tls === undefined
      ? []
      : [`tls { cert_file: "${tls.certificate}", key_file: "${tls.key}", ca_file: "${tls.ca}", timeout: 5 }`]),
    ...(leafPort === undefined ? [] : [`leafnodes { listen: "127.0.0.1:${leafPort}" }`]),
    ...(leafOf === undefined ? [] : [`leafnodes { remotes: [ { url: "nats://127.0.0.1:${leafOf}" } ] }`]),
  ];
}

class LocalServer implements NatsServer {
  readonly port: number;
  readonly #folder: string;
  readonly #parts: readonly string[];
  #config: string;
  #process: Bun.Subprocess | undefined;

  constructor(folder: string, port: number, { parts, config }: { parts: readonly string[]; config: string }) {
    mkdirSync(folder, { recursive: true });
    this.#folder = folder;
    this.port = port;
    this.#parts = parts;
    this.#config = config;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  async start(): Promise<void> {
    this.#write();
    this.#process = Bun.spawn(
      [NATS_SERVER ?? "nats-server", "-c", join(this.#folder, "server.conf"), "-l", join(this.#folder, "log")],
      { stdout: "ignore", stderr: "ignore" },
    );
    await this.#untilReady(this.#process);
  }

  async kill(): Promise<void> {
    this.#process?.kill("SIGKILL");
    await this.#process?.exited;
    this.#process = undefined;
  }

  async reload(config: string): Promise<void> {
    this.#config = config;
    this.#write();
    if (this.#process === undefined) return;
    // It says whether it took it, and goes on as before when not.
    const answers = async () =>
      (await this.log()).match(/(Reloaded|Failed to reload) server configuration/g)?.length ?? 0;
    const before = await answers();
    this.#process.kill("SIGHUP");
    for (const end = performance.now() + READY_MS; (await answers()) === before; await Bun.sleep(20))
      if (performance.now() > end) throw new Error(`nats-server did not reload: ${await this.log()}`);
  }

  async log(): Promise<string> {
    const file = Bun.file(join(this.#folder, "log"));
    return (await file.exists()) ? file.text() : "";
  }

  #write(): void {
    const name = this.#folder.split("/").at(-1);
    const head = [`server_name: ${name}`, `listen: "127.0.0.1:${this.port}"`];
    writeFileSync(join(this.#folder, "server.conf"), `${[...head, ...this.#parts, this.#config].join("\n")}\n`);
  }

  async #untilReady(process: Bun.Subprocess): Promise<void> {
    const end = performance.now() + READY_MS;
    while (performance.now() < end && process.exitCode === null) {
      if (await isListening(this.port)) return;
      await Bun.sleep(10);
    }
    throw new Error(`nats-server did not start: ${await this.log()}`);
  }
}

async function isListening(port: number): Promise<boolean> {
  try {
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } });
    socket.end();
    return true;
  } catch {
    return false;
  }
}
