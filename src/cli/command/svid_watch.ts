// svid watch: a workload of the Workload API that keeps PEM files fresh for programs that only read files.

import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { constants as osConstants } from "node:os";
import { systemClock } from "../../clock.ts";
import { describeError, RiprapError } from "../../error.ts";
import { PID_MAX } from "../../pid.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION } from "../command.ts";
import type { Invocation } from "../invocation.ts";
import { configOf } from "../setting.ts";
import { SvidFiles } from "../svid_files.ts";
import type { Terminal } from "../terminal.ts";
import { usageError } from "../usage.ts";
import { callWorkloadApi, ENDPOINT_VARIABLE, type Endpoint, parseEndpoint } from "../workload_client.ts";
import { type ReceivedSvid, readX509Svid } from "../workload_svid.ts";

const RETRY_FIRST_MS = 100;
const RETRY_MOST_MS = 30_000;
/** A command that reloads a program takes less; one that hangs must not keep the next SVID from the files. */
const COMMAND_MS = 60_000;
const DEFAULT_MODE = "600";

export const svidWatch: Command = {
  words: ["svid", "watch"],
  group: "Run",
  sentence: "Keep an X509-SVID in files, fresh, for a program that reads PEM.",
  notes: [
    "Gets the SVID that a rule gives to this very command, with delivery: workload-api: select it by process:exe together with the user or the systemd unit that it runs as.",
    "The folder holds svid.pem (the chain), key.pem, bundle.pem and, for each other trust domain, bundle.DOMAIN.pem. A new SVID replaces them all at once, by one link. When the identity is taken away, they are removed.",
    "It outlives restarts of the daemon: the files stay until their SVID is renewed. Without --dir it only says what comes.",
  ],
  arguments: [],
  options: [
    { name: "dir", value: "FOLDER", sentence: "The folder of the files; made when it is not there." },
    { name: "mode", value: "BITS", sentence: "Permissions of the files, 600 when not given; 640 lets the group read." },
    { name: "owner", value: "UID[:GID]", sentence: "Give the files to this user and group, by number; root may." },
    { name: "exec", value: "COMMAND", sentence: "Run it in a shell after each new SVID, with RIPRAP_SVID_DIR set." },
    { name: "signal", value: "NAME", sentence: "Send this signal, as in HUP, after each new SVID; with --pid-file." },
    { name: "pid-file", value: "FILE", sentence: "Where the number of the process to signal is, read each time." },
    { name: "once", sentence: "End after the first SVID." },
    {
      name: "socket",
      value: "ENDPOINT",
      sentence: `The Workload API, as in unix:///run/x.sock; else what ${ENDPOINT_VARIABLE} says, else the configured socket.`,
    },
    JSON_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap svid watch --dir /run/nginx-svid --owner 33:33 --exec 'systemctl reload nginx'",
  async run(invocation, terminal) {
    const watcher = new Watcher(invocation, terminal);
    return watcher.run();
  },
};

class Watcher {
  readonly #invocation: Invocation;
  readonly #terminal: Terminal;
  readonly #endpoint: Endpoint;
  readonly #files: SvidFiles | undefined;
  readonly #notify: (() => void | Promise<void>)[];
  #said = "";

  constructor(invocation: Invocation, terminal: Terminal) {
    this.#invocation = invocation;
    this.#terminal = terminal;
    this.#endpoint = endpointOf(invocation, terminal);
    const folder = invocation.option("dir");
    const options = { mode: modeOf(invocation), owner: ownerOf(invocation) };
    this.#files = folder === undefined ? undefined : new SvidFiles(folder, options);
    this.#notify = [...signalOf(invocation), ...commandOf(invocation, { folder, signal: terminal.signal })];
  }

  async run(): Promise<number> {
    const { signal } = this.#terminal;
    for (let attempts = 0; !signal.aborted; attempts += 1) {
      try {
        for await (const message of callWorkloadApi(this.#endpoint, { method: "FetchX509SVID", signal })) {
          attempts = 0;
          await this.#take(readX509Svid(message));
          if (this.#invocation.has("once")) return 0;
        }
      } catch (thrown) {
        if (this.#invocation.has("once")) throw thrown;
        this.#complain(thrown);
      }
      await systemClock.sleep(retryMs(attempts), signal).catch(() => undefined);
    }
    return 0;
  }

  async #take({ spiffeId, serial, notAfter, files }: ReceivedSvid): Promise<void> {
    try {
      this.#files?.replace(files);
    } finally {
      files.get("key.pem")?.fill(0);
    }
    this.#said = "";
    const until = notAfter.toISOString().replace(".000Z", "Z");
    const view = { event: "svid", spiffeId, serial, notAfter: until, files: [...files.keys()] };
    if (this.#invocation.has("json")) this.#terminal.print(JSON.stringify(view));
    else this.#terminal.print(`${spiffeId}, serial ${serial}, until ${until}`);
    for (const tell of this.#notify) {
      try {
        await tell();
      } catch (thrown) {
        this.#terminal.warn(`riprap: ${describeError(thrown)}`);
      }
    }
  }

  /** Each trouble once, until it is over. */
  #complain(thrown: unknown): void {
    const code = thrown instanceof RiprapError ? thrown.code : "internal";
    // Workload API section 5.2.1: an SVID that was taken away is used no longer.
    if (code === "permission_denied") this.#files?.remove();
    const text = describeError(thrown);
    if (text === this.#said || this.#terminal.signal.aborted) return;
    this.#said = text;
    const view = { event: code === "permission_denied" ? "withdrawn" : "trouble", code, message: text };
    if (this.#invocation.has("json")) this.#terminal.print(JSON.stringify(view));
    this.#terminal.warn(`riprap: ${text}; trying again`);
  }
}

/** Doubling from a tenth of a second to half a minute, and apart from others that wait for the same daemon. */
function retryMs(attempts: number): number {
  const most = Math.min(RETRY_FIRST_MS * 2 ** Math.min(attempts, 10), RETRY_MOST_MS);
  return most / 2 + randomInt(Math.ceil(most / 2));
}

function endpointOf(invocation: Invocation, { environment }: Terminal): Endpoint {
  const text = invocation.option("socket") ?? environment[ENDPOINT_VARIABLE];
  if (text === undefined || text === "") return { path: configOf(invocation).workloadSocket };
  return text.startsWith("/") ? { path: text } : parseEndpoint(text);
}

function modeOf(invocation: Invocation): number {
  const text = invocation.option("mode") ?? DEFAULT_MODE;
  if (/^0?[0-7]{3}$/.test(text)) return Number.parseInt(text, 8);
  throw usageError(`Cannot use --mode "${text}": give three octal digits, as in 640`, invocation.title);
}

function ownerOf(invocation: Invocation): { uid: number; gid: number } | undefined {
  const text = invocation.option("owner");
  if (text === undefined) return undefined;
  const [, uid, gid = uid] = /^([0-9]{1,10})(?::([0-9]{1,10}))?$/.exec(text) ?? [];
  if (uid !== undefined) return { uid: Number(uid), gid: Number(gid) };
  throw usageError(`Cannot use --owner "${text}": give numbers, as in 33:33`, invocation.title);
}

function signalOf(invocation: Invocation): (() => void)[] {
  const [name, file] = [invocation.option("signal"), invocation.option("pid-file")];
  if (name === undefined && file === undefined) return [];
  const full = `SIG${name?.replace(/^SIG/, "")}`;
  if (file === undefined || !(full in osConstants.signals))
    throw usageError("Cannot send a signal: give --signal NAME, as in HUP, and --pid-file FILE", invocation.title);
  return [
    () => {
      const text = readFileSync(file, "utf8").trim();
      const pid = /^[0-9]{1,7}$/.test(text) ? Number(text) : 0;
      if (pid < 2 || pid > PID_MAX)
        throw new RiprapError("pid_file_invalid", `Cannot send ${full} by ${file}: it holds no number of a process`);
      process.kill(pid, full as NodeJS.Signals);
    },
  ];
}

function commandOf(
  invocation: Invocation,
  { folder, signal }: { readonly folder: string | undefined; readonly signal: AbortSignal },
): (() => Promise<void>)[] {
  const command = invocation.option("exec");
  if (command === undefined) return [];
  return [
    async () => {
      const child = Bun.spawn(["/bin/sh", "-c", command], {
        stdin: "ignore",
        // Standard output is for what --json promises.
        stdout: 2,
        stderr: "inherit",
        env: { ...process.env, ...(folder === undefined ? {} : { RIPRAP_SVID_DIR: folder }) },
        timeout: COMMAND_MS,
        killSignal: "SIGKILL",
        signal,
      });
      const code = await child.exited;
      if (code !== 0)
        throw new RiprapError("command_failed", `Cannot run the command after a new SVID: it ended with ${code}`);
    },
  ];
}
