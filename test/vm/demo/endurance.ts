// What goes on while something changes: SVIDs renewed under a transfer, a daemon killed under another, a module asked to leave.
import type { VmProcess } from "../lab/agent.ts";
import { AGENT_DIR, idOf, PORT } from "./rule.ts";
import { ALICE, BLOB_BYTES, during, type Scene, SECRET, url } from "./scene.ts";

/** A transfer of about a minute: 64 MiB at nginx's 1,000 KiB a second. */
export function startSlowTransfer(scene: Scene): VmProcess {
  return scene.alpha.vm.spawn(`curl -sS --max-time 300 ${url(scene, "nginx", "slow/blob")} | sha256sum`, {
    uid: ALICE,
  });
}

export async function svidsRenewed(scene: Scene, transfer: VmProcess): Promise<void> {
  const syn = (await scene.alpha.vm.capture()).synsTo(PORT.nginx).length;
  const seen = await renewals(scene, transfer);
  const [digest, there] = [await transfer.result(), await scene.beta.vm.check("sha256sum </srv/web/blob")];
  const after = (await scene.alpha.vm.capture()).synsTo(PORT.nginx).length;
  scene.story.check(
    `no byte of ${BLOB_BYTES >> 20} MiB was lost`,
    digest.stdout === there,
    digest.stdout || digest.stderr,
  );
  scene.story.check("there was no reconnect", after === syn, `${after - syn} new SYN packets`);
  scene.story.check("curl's SVID of 20 s was renewed meanwhile", seen.curl >= 2, `${seen.curl} times`);
  scene.story.check("nginx's SVID of 20 s was renewed meanwhile", seen.nginx >= 2, `${seen.nginx} times`);
}

async function renewals(scene: Scene, transfer: VmProcess): Promise<{ curl: number; nginx: number }> {
  const most = { curl: 0, nginx: 0 };
  while (transfer.running) {
    const [here, there] = await Promise.all([scene.alpha.ask("ps"), scene.beta.ask("ps")]);
    const count = (views: typeof here, path: string): number =>
      Math.max(0, ...views.filter((view) => view.spiffeId === idOf(path)).map((view) => view.svid?.renewals ?? 0));
    most.curl = Math.max(most.curl, count(here, "client/curl"));
    most.nginx = Math.max(most.nginx, count(there, "server/nginx"));
    await Promise.race([Bun.sleep(4000), transfer.exited]);
  }
  return most;
}

export async function daemonKilled(scene: Scene): Promise<void> {
  const { alpha, story } = scene;
  const page = url(scene, "web", "page");
  const caller = alpha.vm.spawn(["python3", `${AGENT_DIR}/caller.py`], { uid: ALICE });
  await caller.write(`${page}\n`);
  await caller.waitOutput(/caller .*\n/);
  const transfer = alpha.vm.spawn(`curl -sS --max-time 300 ${url(scene, "nginx", "half/blob")} | sha256sum`, {
    uid: ALICE,
  });
  await alpha.vm.waitFor(`ss -Htn state established dport = :${PORT.nginx} | grep -q .`);
  await alpha.stopDaemon("KILL");
  story.note("the daemon of alpha is gone (SIGKILL)");

  await caller.write(`${page}\n`);
  const again = await caller.waitOutput(/caller .*\ncaller .*\n/);
  story.check(
    "a process that the kernel knows connects anew",
    again[0].endsWith(`caller ${SECRET}\n`),
    again[0].split("\n")[1],
  );
  const capture = await during(scene, async () => {
    const stranger = await alpha.vm.run(["curl", "-sS", "--max-time", "60", page], { uid: ALICE });
    story.check("one that it does not know is refused", stranger.code !== 0 && stranger.stdout === "", stranger.stderr);
  });
  story.check("and no SYN of it left the machine", capture.synsTo(PORT.web).length === 0);

  await alpha.start();
  story.note("the daemon runs again");
  const fresh = await alpha.vm.run(["curl", "-sS", "--max-time", "60", page], { uid: ALICE });
  story.check("a new process connects", fresh.stdout.trim() === SECRET, fresh.stdout || fresh.stderr);
  const digest = await transfer.result();
  story.check(
    "the transfer ended whole",
    digest.stdout === (await scene.beta.vm.check("sha256sum </srv/web/blob")),
    digest.stdout || digest.stderr,
  );
  caller.endInput();
  await caller.exited;
}

export async function moduleUnloaded(scene: Scene): Promise<void> {
  const { alpha, story } = scene;
  const transfer = alpha.vm.spawn(`curl -sS --max-time 300 ${url(scene, "nginx", "half/blob")} | sha256sum`, {
    uid: ALICE,
  });
  await alpha.vm.waitFor(`ss -Htn state established dport = :${PORT.nginx} | grep -q .`);
  await alpha.stopDaemon();
  const refused = await alpha.tryRiprap("kernel", "unload");
  story.check(
    "unloading is refused while a connection lives",
    refused.code === 1 && /connection|live|in use/.test(refused.stderr),
    refused.stderr,
  );
  const digest = await transfer.result();
  story.check(
    "that connection ended whole",
    digest.stdout === (await scene.beta.vm.check("sha256sum </srv/web/blob")),
    digest.stdout || digest.stderr,
  );
  const unloaded = await alpha.tryRiprap("kernel", "unload", "--drain-timeout", "30s");
  story.check("it unloads when the connection has ended", unloaded.code === 0, unloaded.stdout || unloaded.stderr);
  await alpha.start();
  const page = await alpha.vm.run(["curl", "-sS", "--max-time", "60", url(scene, "web", "page")], { uid: ALICE });
  story.check("loaded again, it works as before", page.stdout.trim() === SECRET, page.stdout || page.stderr);
  const flow = (await alpha.flowsOf({ own: idOf("client/curl"), peer: idOf("server/web") })).at(-1);
  story.check("and riprap flows says so", flow?.tls === "TLS 1.3", flow?.rule);
}
