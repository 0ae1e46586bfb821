// ./run demo: two VMs of one trust domain, with only programs of Debian in them; then a third node, and what a fleet over NATS does. A list of steps, told as they happen.
import { agentAndChild, twoScripts } from "./demo/agent.ts";
import { daemonKilled, moduleUnloaded, startSlowTransfer, svidsRenewed } from "./demo/endurance.ts";
import {
  brokerStops,
  type FleetScene,
  nodeWasAway,
  revokedOnTheThird,
  rulesWithoutAddress,
  thirdNodeJoins,
  twoNodesJoin,
} from "./demo/fleet.ts";
import { withoutModule } from "./demo/identity_plane.ts";
import { opensslClient, opensslServer } from "./demo/outside_peer.ts";
import { curlAndPython, nginxAndSendfile, postgres, redis } from "./demo/plain_program.ts";
import { wgetRefused } from "./demo/refusal.ts";
import { bootScene, type Scene, SECRET, setUp } from "./demo/scene.ts";
import { Story } from "./demo/story.ts";
import type { VmProcess } from "./lab/agent.ts";
import type { RiprapNode } from "./node.ts";

const story = new Story();
let scene: Scene | undefined;

await story.step("Two VMs boot Debian's kernel 6.12 on one segment", async () => {
  scene = await bootScene(story);
  const { alpha, beta } = scene;
  for (const { vm } of [alpha, beta])
    story.check(
      `${vm.name} is up`,
      vm.release.startsWith("6.12."),
      `${vm.address}, Linux ${vm.release}, ${Math.round(vm.bootMs)} ms`,
    );
});
if (scene) await tell(scene);
story.close();
// A VM that came up while the other did not would hold the process; it ends with it.
process.exit(story.failed === 0 ? 0 : 1);

async function tell(scene: Scene): Promise<void> {
  const { alpha, beta } = scene;
  let broker: VmProcess | undefined;
  await story.step("alpha makes a trust domain, beta joins it over NATS, both run riprap", async () => {
    await setUp(scene);
    broker = await twoNodesJoin(scene);
    for (const node of [alpha, beta]) {
      const status = await node.ask("status");
      const applied = status.rules.desired === status.rules.applied;
      story.check(
        `${node.vm.name} enforces in the kernel`,
        status.plane === "kernel" && applied,
        `rules generation ${status.rules.applied} applied`,
      );
    }
  });
  // Without riprap in force nothing of what follows would be worth telling.
  if (story.failed === 0) await tellConnections(scene);
  const gamma = broker === undefined || story.failed > 0 ? undefined : await tellFleet(scene, broker);
  await story.step("where no module is, riprap says so first, and a client has its SVID", () =>
    withoutModule(story, beta),
  );
  await story.step("the VMs end with nothing amiss on the wire or in the kernel log", async () => {
    const { frames } = await alpha.vm.capture();
    const plain = frames.filter((frame) => Buffer.from(frame.buffer, frame.byteOffset, frame.length).includes(SECRET));
    story.check("no packet of the whole demo holds the payload", plain.length === 0, `${frames.length} packets`);
    for (const node of [alpha, beta, ...(gamma === undefined ? [] : [gamma])]) {
      if (story.failed > 0) story.note(`the daemon's log on ${node.vm.name}:\n${await node.daemonLog()}`);
      await node.stop();
      story.check(`the kernel log of ${node.vm.name} holds no fault`, true);
    }
    await scene.segment.close();
  });
}

async function tellConnections(scene: Scene): Promise<void> {
  await story.step("curl fetches a page from Python's http.server", () => curlAndPython(scene));
  await story.step("wget, same machine, same user, is refused", () => wgetRefused(scene));
  await story.step("nginx sends 64 MiB by sendfile", () => nginxAndSendfile(scene));
  // Runs through the steps that follow, which is what a transfer of a minute does.
  const transfer = startSlowTransfer(scene);
  await story.step("redis-benchmark and redis", () => redis(scene));
  await story.step("psql and PostgreSQL", () => postgres(scene));
  await story.step("OpenSSL with an X509-SVID and no riprap, as server", () => opensslServer(scene));
  await story.step("OpenSSL with an X509-SVID and no riprap, as client", () => opensslClient(scene));
  await story.step("SVIDs of 20 s are renewed under a transfer of a minute", () => svidsRenewed(scene, transfer));
  await story.step("an agent and its child have two identities", () => agentAndChild(scene));
  await story.step("two scripts of one interpreter have two identities", () => twoScripts(scene));
  await story.step("the daemon is killed under a transfer, and starts again", () => daemonKilled(scene));
  await story.step("the module is asked to leave while a connection lives", () => moduleUnloaded(scene));
}

/** The third node, when it came up. */
async function tellFleet(scene: Scene, broker: VmProcess): Promise<RiprapNode | undefined> {
  let fleet: FleetScene | undefined;
  let client: VmProcess | undefined;
  await story.step("a third VM boots, and joins the fleet by a token over NATS", async () => {
    fleet = await thirdNodeJoins(scene, broker);
  });
  const joined = fleet as FleetScene | undefined;
  if (joined === undefined) return undefined;
  await story.step("two programs on two nodes talk by rules without an address", async () => {
    client = await rulesWithoutAddress(joined);
  });
  const living = client as VmProcess | undefined;
  if (living !== undefined)
    await story.step("riprap revoke on the third node cuts them", () => revokedOnTheThird(joined, living));
  await story.step("NATS stops, and everything goes on", () => brokerStops(joined));
  await story.step("a node is away while rules change, and comes back", () => nodeWasAway(joined));
  return joined.gamma;
}
