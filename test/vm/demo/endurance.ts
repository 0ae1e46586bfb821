// What goes on while something changes: SVIDs renewed under a transfer, a daemon killed under another, a module asked to leave.
import type { ProcessView } from "../../../src/daemon/control/port.ts";
import type { VmProcess } from "../lab/agent.ts";
import { AGENT_DIR, idOf, PORT } from "./rule.ts";
import { ALICE, BLOB_BYTES, during, type Scene, SECRET, url } from "./scene.ts";

const RENEWAL_LOOK_MS = 6000;

export interface SlowTransfer {
  program: VmProcess;
  /** The most renewals that each end's SVID was seen with, and how long the transfer took. */
  seen: Promise<{ curl: number; nginx: number; seconds: number }>;
}

/** A transfer of about a minute: 64 MiB at nginx's 1,000 KiB a second. Other steps go on meanwhile. */
export function startSlowTransfer(scene: Scene): SlowTransfer {
  const command = `curl -sS --max-time 300 ${url(scene, "nginx", "slow/blob")} | sha256sum`;
  const program = scene.alpha.vm.spawn(command, { uid: ALICE });
  const seen = watchRenewals(scene, program);
  seen.catch(() => {}); // its step will tell
  return { program, seen };
}

async function watchRenewals(
  scene: Scene,
  transfer: VmProcess,
): Promise<{ curl: number; nginx: number; seconds: number }> {
  const begun = performance.now();
  const most = { curl: 0, nginx: 0 };
  while (transfer.running) {
    await Promise.race([Bun.sleep(RENEWAL_LOOK_MS), transfer.exited]);
    const [here, there] = await Promise.all([scene.alpha.ask("ps"), scene.beta.ask("ps")]);
    most.curl = Math.max(most.curl, countRenewals(here, "client/curl"));
    most.nginx = Math.max(most.nginx, countRenewals(there, "server/nginx"));
  }
  return { ...most, seconds: (performance.now() - begun) / 1000 };
}

function countRenewals(views: readonly ProcessView[], path: string): number {
  return Math.max(0, ...views.filter((view) => view.spiffeId === idOf(path)).map((view) => view.svid?.renewals ?? 0));
}

export async function svidsRenewed(scene: Scene, transfer: SlowTransfer): Promise<void> {
  const { story } = scene;
  const [result, seen] = await Promise.all([transfer.program.result(), transfer.seen]);
  const digest = await scene.beta.vm.check("sha256sum </srv/web/blob");
  // One for the fast transfer of the step before, one for this one.
  const syns = (await scene.alpha.vm.capture()).synsTo(PORT.nginx).length;
  const whole = result.stdout === digest;
  story.check(`no byte of ${BLOB_BYTES >> 20} MiB was lost`, whole, result.stdout || result.stderr);
  story.check("it took a minute", seen.seconds >= 60, `${Math.round(seen.seconds)} s`);
  story.check("there was no reconnect", syns === 2, `${syns} SYN packets for two transfers`);
  story.check("curl's SVID of 20 s was renewed meanwhile", seen.curl >= 2, `${seen.curl} times`);
  story.check("nginx's SVID of 20 s was renewed meanwhile", seen.nginx >= 2, `${seen.nginx} times`);
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
  story.check("the transfer goes on without a daemon", transfer.running);

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
  const held = unloaded.code === 0 ? "" : await alpha.vm.check(["ss", "-tanp"]);
  story.check(
    "it unloads when the connection has ended",
    unloaded.code === 0,
    unloaded.stdout || unloaded.stderr + held,
  );
  await alpha.start();
  const page = await alpha.vm.run(["curl", "-sS", "--max-time", "60", url(scene, "web", "page")], { uid: ALICE });
  story.check("loaded again, it works as before", page.stdout.trim() === SECRET, page.stdout || page.stderr);
  const flow = (await alpha.flowsOf({ own: idOf("client/curl"), peer: idOf("server/web") })).at(-1);
  story.check("and riprap flows says so", flow?.tls === "TLS 1.3", flow?.rule);
}
