// The two nodes of the demo with their programs, and what several steps ask of them.
import type { FlowView } from "../../../src/daemon/control/port.ts";
import type { Capture } from "../capture.ts";
import type { VmProcess } from "../lab/agent.ts";
import { openSegment, type Segment } from "../lab/segment.ts";
import { bootNode, type RiprapNode } from "../node.ts";
import { AGENT_DIR, demoRules, PORT, TRUST_DOMAIN } from "./rule.ts";
import type { Story } from "./story.ts";

/** A user who is not root runs every client. */
export const ALICE = 1000;
/** In every page and file of the demo; a capture that holds it holds plaintext. */
export const SECRET = "the tide turns at four";
/** 64 MiB that repeat a line, so that any piece of it would be known. */
export const BLOB_BYTES = 64 << 20;

export interface Scene {
  story: Story;
  segment: Segment;
  /** Where the clients are; holds the root. */
  alpha: RiprapNode;
  /** Where the servers are. */
  beta: RiprapNode;
  servers: Map<string, VmProcess>;
}

export async function bootScene(story: Story): Promise<Scene> {
  const segment = await openSegment();
  const [alpha, beta] = await Promise.all(
    ["alpha", "beta"].map((name) => bootNode({ kernel: "6.12", name, segment, memoryChecks: false })),
  );
  if (!alpha || !beta) throw new RangeError("The demo has two nodes");
  return { story, segment, alpha, beta, servers: new Map() };
}

export async function setUp({ alpha, beta }: Scene): Promise<void> {
  await alpha.riprap("init", TRUST_DOMAIN, "--node", alpha.vm.name);
  const rules = demoRules(beta.vm.address ?? "");
  for (const node of [alpha, beta]) {
    await node.writeRules(rules);
    await node.writeConfig("unknownMode: enforce\n");
  }
  await beta.vm.check(
    `mkdir -p /srv/web && echo '${SECRET}' >/srv/web/page && yes '${SECRET}' | head -c ${BLOB_BYTES} >/srv/web/blob`,
  );
  for (const [name, text] of Object.entries(SCRIPTS)) await alpha.vm.put(`${AGENT_DIR}/${name}`, text);
}

/** Fetches a page with nothing but Python's own library. */
const FETCH = `import sys, urllib.request
def fetch(url):
    return urllib.request.urlopen(url, timeout=30).read().decode().strip()
`;

const SCRIPTS: Readonly<Record<string, string>> = {
  "planner.py": `${FETCH}
import subprocess
print("planner", fetch(sys.argv[1]), flush=True)
subprocess.run(["python3", "${AGENT_DIR}/tool.py", sys.argv[1]], check=True)
`,
  "tool.py": `${FETCH}
print("tool", fetch(sys.argv[1]), flush=True)
`,
  "reporter.py": `${FETCH}
print("reporter", fetch(sys.argv[1]), flush=True)
`,
  // Stays, and fetches anew for each line that it is given: a process that the kernel knows when the daemon is gone.
  "caller.py": `${FETCH}
for line in sys.stdin:
    try:
        print("caller", fetch(line.strip()), flush=True)
    except OSError as error:
        print("caller refused:", error, flush=True)
`,
};

export function url(scene: Scene, name: keyof typeof PORT, path: string): string {
  return `http://${scene.beta.vm.address}:${PORT[name]}/${path}`;
}

/** Starts a server on beta and waits until it listens. */
export async function serve(scene: Scene, name: keyof typeof PORT, command: string, uid = 0): Promise<void> {
  scene.servers.set(name, scene.beta.vm.spawn(`exec ${command} >/var/log/${name}.log 2>&1`, { uid }));
  await scene.beta.vm.waitFor(`ss -Hltn sport = :${PORT[name]} | grep -q .`, 60_000);
}

/** The capture of the segment between two moments, as alpha's card saw it. */
export async function during(scene: Scene, act: () => Promise<void>): Promise<Capture> {
  const before = await scene.alpha.vm.capture();
  await act();
  return (await scene.alpha.vm.capture()).since(before);
}

/** The three facts of an encrypted connection: packets were seen, none holds the payload, and TLS 1.3 was agreed. */
export function checkCapture(scene: Scene, capture: Capture, port: number): void {
  const streams = capture.streams({ port });
  const packets = capture.tcp.filter(
    (packet) => packet.source.port === port || packet.destination.port === port,
  ).length;
  scene.story.check("the capture holds packets of it", packets > 0, `${packets} packets`);
  scene.story.check("none holds the payload", !capture.containsPayload(SECRET));
  scene.story.check(
    "it opens with a TLS 1.3 handshake",
    streams.some((stream) => stream.isClientHello()) && streams.some((stream) => stream.isTls13ServerHello()),
    `${streams.length} directions, first bytes ${streams[0]?.bytes.subarray(0, 5).toString("hex") ?? "none"}`,
  );
}

/** Both ends' flow records name both IDs, a rule and TLS 1.3. */
export async function checkFlows(scene: Scene, client: string, server: string): Promise<void> {
  const [out, into] = await Promise.all([
    scene.alpha.flowsOf({ own: client, peer: server }),
    scene.beta.flowsOf({ own: server, peer: client }),
  ]);
  for (const [node, flow] of [
    ["alpha", out.at(-1)],
    ["beta", into.at(-1)],
  ] as const)
    scene.story.check(
      `riprap flows on ${node} names both IDs, the rule and TLS 1.3`,
      isWhole(flow),
      flow && describe(flow),
    );
}

function isWhole(flow: FlowView | undefined): boolean {
  return flow?.rule !== undefined && flow.tls === "TLS 1.3" && flow.own !== undefined && flow.peer !== undefined;
}

function describe(flow: FlowView): string {
  return `${flow.own} ${flow.direction} ${flow.peer}, rule ${flow.rule}, ${flow.tls} ${flow.suite ?? ""}`;
}
