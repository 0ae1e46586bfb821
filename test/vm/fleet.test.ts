// Three nodes of a fleet on two machines: a revocation said on one cuts a connection between the two others, also one that is older than their daemon.
//
//   10.77.0.1: node hub (issues, no module) and the broker; node alpha, /srv/bin/web :8000     10.77.0.2: node beta, /srv/bin/client, /srv/bin/other
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { FlowView } from "../../src/daemon/control/port.ts";
import type { VmProcess } from "./lab/agent.ts";
import { CHOSEN_KERNEL } from "./lab/kernel.ts";
import { openSegment, type Segment } from "./lab/segment.ts";
import { bootNode, type RiprapNode } from "./node.ts";
import { identity, policy } from "./rule.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const TRUST_DOMAIN = "fleet.test";
const PORT = 8000;
const NATS_PORT = 4222;
const HUB = "/etc/riprap/hub.yaml";
const HUB_SOCKET = "/run/hub/control.sock";
/** What the riprap command asks, without the second that it takes to start under emulation. */
const ask = (socket: string, path: string) => `curl -sS --unix-socket ${socket} http://riprap/v1/${path}`;
const CONTROL = "/run/riprap/control.sock";
const idOf = (name: string) => `spiffe://${TRUST_DOMAIN}/${name}`;
const TO_WEB = `egress: [{ to: [{ peer: ${idOf("web")} }], ports: [${PORT}] }]`;
const FROM_BOTH = `ingress: [{ from: [{ peer: ["${idOf("client")}", "${idOf("other")}"] }], ports: [${PORT}] }]`;
const RULES = ["client", "other"].map((name) => identity(name) + policy(name, TO_WEB)).join("");

describeVm(`a fleet on kernel ${CHOSEN_KERNEL ?? "6.12"}`, () => {
  let segment: Segment;
  let alpha: RiprapNode;
  let beta: RiprapNode;

  beforeAll(async () => {
    segment = await openSegment();
    const kernel = CHOSEN_KERNEL ?? "6.12";
    [alpha, beta] = await Promise.all([
      bootNode({ kernel, name: "alpha", segment, capture: false }),
      bootNode({ kernel, name: "beta", segment, capture: false }),
    ]);
    await startHub();
    // One after another: the issuing node has half of a slow machine for each.
    for (const node of [alpha, beta]) await join(node);
    await Promise.all([prepareAlpha(), prepareBeta()]);
    // Else the first chain that one shows to the other is of an authority that nobody knows.
    await Promise.all([knows(alpha, "beta"), knows(beta, "alpha")]);
  }, BOOT_TEST_MS);

  afterAll(async () => {
    await Promise.all([alpha?.stop(), beta?.stop()]);
    await segment?.close();
  }, VM_TEST_MS);

  /** The broker, and a node in the identity plane beside it. */
  async function startHub(): Promise<void> {
    const { vm } = alpha;
    vm.spawn(`exec nats-server -a 0.0.0.0 -p ${NATS_PORT} >/var/log/nats.log 2>&1`);
    const settings = {
      ...{ stateDir: "/var/lib/hub", rulesDir: "/etc/riprap/hub.d", controlSocket: HUB_SOCKET },
      ...{ device: "/dev/none", workloadApi: "false", natsServers: `nats://${vm.address}:${NATS_PORT}` },
    };
    const lines = Object.entries(settings).map(([name, value]) => `${name}: ${value}\n`);
    await vm.put(HUB, lines.join(""), "600");
    await vm.check("mkdir -p /run/hub /etc/riprap/hub.d");
    await alpha.riprap("init", TRUST_DOMAIN, "--node", "hub", "--config", HUB);
    vm.spawn(`exec riprap daemon --config ${HUB} >>/var/log/hub.log 2>&1`);
    await vm.waitFor(`${ask(HUB_SOCKET, "fleet/status")} | grep -q '"connected"'`);
  }

  const knows = (node: RiprapNode, name: string) =>
    node.vm.waitFor(`${ask(CONTROL, "fleet/status")} | grep -q '"name":"${name}"'`, BOOT_TEST_MS);

  async function join(node: RiprapNode): Promise<void> {
    const request = JSON.stringify({ idPrefixes: [`spiffe://${TRUST_DOMAIN}/`], lifetimeMs: 600_000 });
    const { token } = JSON.parse(await alpha.vm.check(`${ask(HUB_SOCKET, "fleet/tokens")} -d '${request}'`)) as {
      token: string;
    };
    const words = ["riprap", "join", "-", "--node", node.vm.name];
    const joined = await node.vm.run(words, { stdin: token, timeout: VM_TEST_MS });
    expect(joined).toMatchObject({ code: 0 });
  }

  async function prepareAlpha(): Promise<void> {
    await alpha.vm.check('mkdir -p /srv/bin /srv/www && cp "$(readlink -f /usr/bin/python3)" /srv/bin/web');
    await alpha.vm.check("truncate -s 64M /srv/www/big");
    await alpha.writeRules({ all: identity("web") + policy("web", FROM_BOTH) });
    await alpha.start();
    const server = `cd /srv/www && exec /srv/bin/web -m http.server ${PORT}`;
    alpha.vm.spawn(server, { env: { PYTHONHOME: "/usr" } });
    await alpha.vm.waitFor(`ss -Hltn sport = :${PORT} | grep -q .`);
  }

  async function prepareBeta(): Promise<void> {
    await beta.vm.check("mkdir -p /srv/bin && cp /usr/bin/curl /srv/bin/client && cp /usr/bin/curl /srv/bin/other");
    await beta.writeRules({ all: RULES });
    await beta.start();
  }

  /** A download that lasts for minutes, when alpha knows of it. */
  async function connect(program: string): Promise<VmProcess> {
    const download = `--limit-rate 100k -o /dev/null http://${alpha.vm.address}:${PORT}/big`;
    const process = beta.vm.spawn(`exec /srv/bin/${program} -sS ${download}`);
    await alpha.vm.waitFor(`${ask(CONTROL, "flows?live=1")} | grep -q ${idOf(program)}`);
    return process;
  }

  /** By the command on the hub; the hash of the statement, and when the command had said it. */
  async function revoke(target: string): Promise<string> {
    const said = await alpha.riprap("revoke", target, "--reason", "a test says so", "--config", HUB);
    return /statement ([0-9a-f]{64})/.exec(said.stdout)?.[1] ?? said.stdout;
  }

  async function cutOn(node: RiprapNode, ends: readonly string[]): Promise<FlowView | undefined> {
    const flows = JSON.parse(await node.vm.check(ask(CONTROL, "flows?limit=100"))) as FlowView[];
    return flows.findLast(
      ({ own, peer, state }) => state === "cut" && ends.includes(own ?? "") && ends.includes(peer ?? ""),
    );
  }

  test(
    "riprap revoke of an ID on the third node ends the established connection, and the record names the statement",
    async () => {
      const client = await connect("client");
      const statement = await revoke(idOf("client"));
      expect(await client.exited).not.toBe(0);
      // The end that hears of it first cuts; the other may only see how.
      const ends = [idOf("client"), idOf("web")];
      const cuts = [await cutOn(alpha, ends), await cutOn(beta, ends)];
      expect(cuts.map((flow) => flow?.statement)).toContain(statement);
    },
    VM_TEST_MS,
  );

  test(
    "a connection lives on while the daemon is killed and started, and riprap revoke of its peer's node cuts it after that",
    async () => {
      const other = await connect("other");
      await alpha.stopDaemon("KILL");
      await alpha.start();
      expect(other.running).toBe(true);
      const statement = await revoke("node:beta");
      expect(await other.exited).not.toBe(0);
      expect(await cutOn(alpha, [idOf("other"), idOf("web")])).toMatchObject({ reason: "revoked", statement });
      const again = await beta.vm.run(`/srv/bin/other -sS --max-time 20 http://${alpha.vm.address}:${PORT}/`);
      expect(again.code).not.toBe(0);
    },
    VM_TEST_MS,
  );
});
