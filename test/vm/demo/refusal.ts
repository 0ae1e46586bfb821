// What policy refuses: a program on the same machine, under the same user, to the same port.
import { idOf, PORT } from "./rule.ts";
import { ALICE, during, type Scene, url } from "./scene.ts";

export async function wgetRefused(scene: Scene): Promise<void> {
  const capture = await during(scene, async () => {
    const result = await scene.alpha.vm.run(["wget", "-O-", "-T", "30", "-t", "1", url(scene, "web", "page")], {
      uid: ALICE,
    });
    const said = /failed: (.*)/.exec(result.stderr)?.[1] ?? result.stderr;
    scene.story.check("wget is refused at connect()", result.code !== 0 && /Permission denied/.test(said), said);
  });
  const syns = capture.synsTo(PORT.web, scene.beta.vm.address).length;
  scene.story.check("no SYN left the machine", syns === 0, `${syns} SYN packets`);
  const flow = (await scene.alpha.flowsOf({ own: idOf("client/wget"), state: "denied" })).at(-1);
  scene.story.check("riprap flows has the refusal", flow !== undefined, flow && `${flow.remote}: ${flow.reason}`);
  const answer = await scene.alpha.ask(
    "explain",
    "--from",
    idOf("client/wget"),
    "--to",
    `${scene.beta.vm.address}:${PORT.web}`,
  );
  scene.story.check(
    "riprap explain says why, and what would allow it",
    answer.verdict === "deny" && answer.remedy !== undefined,
  );
  scene.story.note([...answer.steps, answer.remedy ?? ""].join("\n"));
}
