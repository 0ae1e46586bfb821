// A VM that is a riprap node: its trust domain, its rules, its daemon, and the riprap command as a person would type it.
import type { AttestView, ExplainView, FlowView, ProcessView, StatusView } from "../../src/daemon/control/port.ts";
import { RiprapError } from "../../src/error.ts";
import type { RunResult, VmProcess } from "./lab/agent.ts";
import { PATIENCE } from "./lab/kernel.ts";
import { type BootOptions, bootVm, type Vm } from "./lab.ts";

// The command is a hundred megabytes that an emulated CPU has to start.
const COMMAND_TIMEOUT_MS = 120_000;
const MEMORY_MIB = 1536;
const DAEMON_LOG = "/var/log/riprap.log";

export interface RiprapCommands {
  status: StatusView;
  ps: ProcessView[];
  flows: FlowView[];
  explain: ExplainView;
  attest: AttestView;
}

export async function bootNode(options: Omit<BootOptions, "product">): Promise<RiprapNode> {
  return new RiprapNode(await bootVm({ memory: MEMORY_MIB, ...options, product: "node" }));
}

/** Several nodes of one trust domain, enrolled by file as if there were no network; the first holds the root. */
export async function enrolNodes(trustDomain: string, nodes: readonly RiprapNode[]): Promise<void> {
  const [first, ...others] = nodes;
  if (!first) throw new RangeError("A trust domain needs a node");
  await first.riprap("init", trustDomain, "--node", first.vm.name);
  for (const node of others) {
    const request = await node.riprap("enrol", "request", trustDomain, "--node", node.vm.name);
    await first.vm.put("/root/request", request.stdout);
    const grant = await first.riprap("enrol", "sign", "/root/request");
    await node.vm.put("/root/grant", grant.stdout);
    await node.riprap("enrol", "install", "/root/grant");
  }
}

export class RiprapNode {
  readonly vm: Vm;
  #daemon: VmProcess | undefined;

  constructor(vm: Vm) {
    this.vm = vm;
  }

  /** One YAML document a file, as the daemon finds them when it starts. */
  async writeRules(rules: Readonly<Record<string, string>>): Promise<void> {
    for (const [name, text] of Object.entries(rules))
      await this.vm.put(`/etc/riprap/rules.d/${name}.yaml`, text, "600");
  }

  async writeConfig(text: string): Promise<void> {
    await this.vm.put("/etc/riprap/riprap.yaml", text, "600");
  }

  /** Loads the module where it is not loaded, starts the daemon and waits until its rules are in force. */
  async start(env: Readonly<Record<string, string>> = {}): Promise<void> {
    const loaded = (await this.vm.run("test -e /dev/riprap")).code === 0;
    const command = loaded ? "riprap daemon" : "riprap run";
    this.#daemon = this.vm.spawn(`exec ${command} --require-kernel >>${DAEMON_LOG} 2>&1`, { env });
    const ready = await this.tryRiprap("wait-ready", "--timeout", `${60 * PATIENCE}s`);
    if (ready.code === 0) return;
    throw new RiprapError("node_not_ready", `${this.vm.name}: ${ready.stderr}\n${await this.daemonLog()}`);
  }

  /** Ends the daemon and waits for its end. */
  async stopDaemon(signal = "TERM"): Promise<void> {
    this.#daemon?.kill(signal);
    await this.#daemon?.exited;
    this.#daemon = undefined;
  }

  get daemonRuns(): boolean {
    return this.#daemon?.running ?? false;
  }

  async daemonLog(): Promise<string> {
    return (await this.vm.run(["tail", "-n", "60", DAEMON_LOG])).stdout;
  }

  async tryRiprap(...words: string[]): Promise<RunResult> {
    return this.vm.run(["riprap", ...words], { timeout: COMMAND_TIMEOUT_MS });
  }

  /** Throws when it ends with another status than 0. */
  async riprap(...words: string[]): Promise<RunResult> {
    const result = await this.tryRiprap(...words);
    if (result.code !== 0)
      throw new RiprapError(
        "riprap_failed",
        `${this.vm.name}: riprap ${words.join(" ")} ended with ${result.code}: ${result.stderr}${result.stdout}`,
      );
    return result;
  }

  /** The JSON of a command that looks at the node. */
  async ask<K extends keyof RiprapCommands>(command: K, ...words: string[]): Promise<RiprapCommands[K]> {
    const result = await this.riprap(command, ...words, "--json");
    return JSON.parse(result.stdout) as RiprapCommands[K];
  }

  /** The flows between a pair of IDs, newest last. */
  async flowsOf(match: { own?: string; peer?: string; state?: FlowView["state"] }): Promise<FlowView[]> {
    const flows = await this.ask("flows", "--limit", "2000");
    return flows.filter(
      (flow) =>
        (!match.own || flow.own === match.own) &&
        (!match.peer || flow.peer === match.peer) &&
        (!match.state || flow.state === match.state),
    );
  }

  async stop(): Promise<void> {
    await this.vm.stop();
  }
}
