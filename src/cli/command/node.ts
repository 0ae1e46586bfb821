// The commands that run the node: run, daemon, wait-ready, drain.

import { existsSync } from "node:fs";
import type { DaemonConfig } from "../../daemon/config.ts";
import { isListening } from "../../daemon/control/probe.ts";
import { thisMachine } from "../../daemon/kernel/machine.ts";
import { openKernelModule } from "../../daemon/kernel.ts";
import { describeError, RiprapError } from "../../error.ts";
import { withAuthority } from "../authority.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, type Option, SOCKET_OPTION } from "../command.ts";
import type { Invocation } from "../invocation.ts";
import { show } from "../output.ts";
import { clientOf, configOf } from "../setting.ts";
import type { Terminal } from "../terminal.ts";

const REQUIRE_KERNEL: Option = {
  name: "require-kernel",
  sentence: "Refuse to start where the module cannot be used, instead of enforcing nothing.",
};
const RESOLVER: Option = {
  name: "resolver",
  value: "PATH",
  sentence: "Ask riprap resolver at PATH for the addresses of names, as a daemon without a network must.",
};
const CONTROL = [SOCKET_OPTION, CONFIG_OPTION];
/** Between two questions whether the daemon has come up. */
const RETRY_MS = 250;

const run: Command = {
  words: ["run"],
  group: "Run",
  sentence: "Check this machine, load the module, and run the daemon in the foreground.",
  notes: [
    "Builds the module first when it was not built for the running kernel. Where it cannot be loaded, riprap says why and runs in the identity plane, which issues identities and enforces nothing; --require-kernel refuses instead.",
  ],
  arguments: [],
  options: [REQUIRE_KERNEL, CONFIG_OPTION],
  example: "riprap run --require-kernel",
  async run(invocation, terminal) {
    const config = daemonConfigOf(invocation);
    // A node without a trust domain must not build for a minute before it says so.
    await withAuthority(config.stateDir, () => undefined);
    await refuseSecondDaemon(config);
    await loadModule(config, terminal);
    return serve(config, terminal);
  },
};

const daemon: Command = {
  words: ["daemon"],
  group: "Run",
  sentence: "Run the daemon alone, with the module as it is: what the systemd unit does.",
  arguments: [],
  options: [REQUIRE_KERNEL, RESOLVER, CONFIG_OPTION],
  example: "riprap daemon --require-kernel",
  async run(invocation, terminal) {
    const config = daemonConfigOf(invocation);
    await refuseSecondDaemon(config);
    return serve(config, terminal, invocation.option("resolver"));
  },
};

const resolver: Command = {
  words: ["resolver"],
  group: "Run",
  sentence: "Resolve names for a daemon without a network, as riprap-resolver.service does.",
  arguments: [],
  options: [{ name: "listen", value: "PATH", required: true, sentence: "The Unix socket to answer on." }],
  example: "riprap resolver --listen /run/riprap-resolver/resolver.sock",
  async run(invocation, terminal) {
    const { openResolver } = await import("../../daemon/resolver.ts");
    const listener = await openResolver(invocation.required("listen"));
    await untilStopped(terminal);
    await listener.close();
    return 0;
  },
};

const waitReady: Command = {
  words: ["wait-ready"],
  group: "Run",
  sentence: "Wait until the daemon answers and its rules are in force.",
  arguments: [],
  options: [
    { name: "timeout", value: "DURATION", sentence: "Give up after DURATION, 30s when not given." },
    JSON_OPTION,
    ...CONTROL,
  ],
  example: "riprap wait-ready --timeout 10s",
  async run(invocation, terminal) {
    const limitMs = invocation.duration("timeout", 30_000);
    const started = performance.now();
    await askUntilReady(invocation, { limitMs, terminal });
    const waitedMs = Math.round(performance.now() - started);
    show({ ready: true, waitedMs }, { invocation, terminal }, () => ["ready"]);
    return 0;
  },
};

const drain: Command = {
  words: ["drain"],
  group: "Run",
  sentence: "Stop managing new sockets, and say how many flows still live.",
  notes: [
    "A program that a policy in enforce selects gets no new TCP socket (EACCES) meanwhile; others go plain. To be undone with --off, and by loading the module anew.",
  ],
  arguments: [],
  options: [{ name: "off", sentence: "Manage new sockets again." }, JSON_OPTION, ...CONTROL],
  example: "riprap drain",
  async run(invocation, terminal) {
    const on = invocation.has("off") ? "0" : "1";
    const answer = await clientOf(invocation).post<{ live: number }>("/v1/drain", { query: { on } });
    show(answer, { invocation, terminal }, ({ live }) => [
      on === "1" ? `draining: ${live} flows still live` : `managing again: ${live} flows live`,
    ]);
    return 0;
  },
};

export const NODE_COMMANDS: readonly Command[] = [run, daemon, resolver, waitReady, drain];

function daemonConfigOf(invocation: Invocation): DaemonConfig {
  const config = configOf(invocation);
  return invocation.has("require-kernel") ? { ...config, requireKernel: true } : config;
}

/** Before anything is touched: a second daemon would move the generations of the first before it failed. */
async function refuseSecondDaemon({ controlSocket }: DaemonConfig): Promise<void> {
  if (!existsSync(controlSocket) || !(await isListening(controlSocket))) return;
  const remedy = 'stop it first ("systemctl stop riprap"), or see what it does with "riprap status"';
  throw new RiprapError(
    "control_socket",
    `Cannot start the daemon: another one listens at ${controlSocket}; ${remedy}`,
  );
}

/** Loads the module unless it is there. Says what is in the way; that it goes on without, unless the kernel is required. */
async function loadModule(config: DaemonConfig, terminal: Terminal): Promise<void> {
  const module = openKernelModule(thisMachine());
  const { loaded, release } = module.status();
  if (loaded) return;
  const failed = module.check().filter((finding) => finding.level === "fail");
  const sayWhatFails = () => {
    for (const { check, fact, remedy } of failed)
      terminal.warn(`riprap: ${check}: ${fact}; ${remedy ?? "see riprap doctor"}`);
  };
  try {
    const onBuild = () =>
      terminal.warn(`riprap: building the module for kernel ${release}, which takes about a minute`);
    const { path } = await module.load({ onBuild });
    terminal.warn(`riprap: loaded ${path}`);
    sayWhatFails();
  } catch (thrown) {
    const goesOn = !config.requireKernel && thrown instanceof RiprapError;
    // Before the reasons: whoever reads one line reads this one.
    if (goesOn) terminal.warn("riprap: going on in the identity plane: identities are issued, NOTHING IS ENFORCED");
    sayWhatFails();
    if (!goesOn) throw thrown;
    const sentence = describeError(thrown);
    if (!failed.some((finding) => sentence.includes(finding.fact))) terminal.warn(`riprap: ${sentence}`);
  }
}

/** Runs until SIGINT or SIGTERM. */
async function serve(config: DaemonConfig, terminal: Terminal, resolverPath?: string): Promise<number> {
  // Not at the top: every other command starts without the daemon's weight.
  const [{ startDaemon }, { resolveThrough }] = await Promise.all([
    import("../../daemon.ts"),
    import("../../daemon/resolver.ts"),
  ]);
  const daemon = await startDaemon(config, resolverPath === undefined ? {} : { resolve: resolveThrough(resolverPath) });
  await untilStopped(terminal);
  await daemon.stop();
  return 0;
}

async function untilStopped({ signal }: Terminal): Promise<void> {
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}

/** A daemon that is not there yet is asked again until the time is over. */
async function askUntilReady(invocation: Invocation, input: { limitMs: number; terminal: Terminal }): Promise<void> {
  const { limitMs, terminal } = input;
  const client = clientOf(invocation);
  const deadline = performance.now() + limitMs;
  for (;;) {
    const leftMs = Math.max(0, Math.floor(deadline - performance.now()));
    try {
      await client.get("/v1/ready", {
        query: { wait_ms: String(Math.min(leftMs, 600_000)) },
        waitMs: leftMs,
        signal: terminal.signal,
      });
      return;
    } catch (thrown) {
      const again = thrown instanceof RiprapError && ["unreachable", "not_ready", "unavailable"].includes(thrown.code);
      if (!again || deadline - performance.now() < RETRY_MS || terminal.signal.aborted) throw thrown;
    }
    await Bun.sleep(RETRY_MS);
  }
}
