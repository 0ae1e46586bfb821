// One interpreter, several identities: an agent and the child that it starts, and two scripts side by side.
import { AGENT_DIR, idOf } from "./rule.ts";
import { ALICE, type Scene, SECRET, url } from "./scene.ts";

export async function agentAndChild(scene: Scene): Promise<void> {
  const run = await scene.alpha.vm.run(["python3", `${AGENT_DIR}/planner.py`, url(scene, "web", "page")], {
    uid: ALICE,
  });
  const whole = run.stdout.includes(`planner ${SECRET}`) && run.stdout.includes(`tool ${SECRET}`);
  scene.story.check("the agent and its child each fetch the page", whole, run.stdout || run.stderr);
  await checkPeers(scene, ["agent/planner", "agent/tool"]);
}

export async function twoScripts(scene: Scene): Promise<void> {
  const page = url(scene, "web", "page");
  const caller = scene.alpha.vm.spawn(["python3", `${AGENT_DIR}/caller.py`], { uid: ALICE });
  await caller.write(`${page}\n`);
  const reporter = await scene.alpha.vm.run(["python3", `${AGENT_DIR}/reporter.py`, page], { uid: ALICE });
  await caller.waitOutput(/caller .*/);
  caller.endInput();
  const whole = caller.stdout.includes(SECRET) && reporter.stdout.includes(SECRET);
  scene.story.check(
    "two scripts of /usr/bin/python3 fetch the page side by side",
    whole,
    `${caller.stdout}${reporter.stdout}${reporter.stderr}`,
  );
  await checkPeers(scene, ["agent/caller", "agent/reporter"]);
}

/** What the server's node saw is what the client's key proved, not what the client said. */
async function checkPeers(scene: Scene, paths: readonly string[]): Promise<void> {
  const flows = await scene.beta.flowsOf({ own: idOf("server/web") });
  for (const path of paths) {
    const flow = flows.findLast((each) => each.peer === idOf(path));
    scene.story.check(`the server's node saw ${idOf(path)}`, flow?.tls === "TLS 1.3", flow && `flow ${flow.flow}`);
  }
}
