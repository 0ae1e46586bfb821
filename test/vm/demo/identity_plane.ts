// The step on a machine where no module is: the daemon says first that nothing is enforced, and a client has its SVID all the same.
import type { RiprapNode } from "../node.ts";
import type { Story } from "./story.ts";

const FOLDER = "/root/fresh";
const CONFIG = `${FOLDER}/riprap.yaml`;
const LOG = `${FOLDER}/log`;
const SETTINGS = {
  stateDir: `${FOLDER}/state`,
  rulesDir: `${FOLDER}/rules.d`,
  controlSocket: `${FOLDER}/control.sock`,
  workloadSocket: `${FOLDER}/workload.sock`,
  device: `${FOLDER}/no-device`,
};
/** As a kernel is that takes no modules: none is there, there is nothing to build one for, and no right to load it. */
const WITHOUT_MODULES =
  "unshare --mount sh -c 'mount -t tmpfs none /sys/module && mount -t tmpfs none /lib/modules && exec setpriv --bounding-set -sys_module --inh-caps -sys_module -- \"$@\"' sh";
const RULE = `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: client }
spec:
  workloadID: client
  selectors: { process:exe: /usr/local/bin/riprap }
  svid: { x509: { delivery: workload-api } }
`;

/** A trust domain of its own, beside whatever else the node does. */
export async function withoutModule(story: Story, node: RiprapNode): Promise<void> {
  const riprap = (...words: string[]) => node.riprap(...words, "--config", CONFIG);
  await node.vm.check(`mkdir -p -m 700 ${FOLDER} ${SETTINGS.rulesDir}`);
  await node.vm.put(CONFIG, JSON.stringify(SETTINGS), "600");
  await node.vm.put(`${SETTINGS.rulesDir}/client.yaml`, RULE, "600");
  await riprap("init", "fresh.example", "--node", "fresh");
  const daemon = node.vm.spawn(`exec ${WITHOUT_MODULES} riprap run --config ${CONFIG} >${LOG} 2>&1`);
  try {
    await riprap("wait-ready", "--timeout", "90s");
    const [first = ""] = (await node.vm.check(`grep -m 1 . ${LOG}`)).split("\n");
    story.check("riprap run says first that nothing is enforced", first.includes("NOTHING IS ENFORCED"), first);
    const [status = ""] = (await riprap("status")).stdout.split("\n");
    story.check("so does the first line of riprap status", /identity/i.test(status), status);
    const { stdout } = await riprap("svid", "watch", "--once", "--dir", `${FOLDER}/svid`);
    story.check("a client has its SVID", stdout.startsWith("spiffe://fresh.example/client, "), stdout);
    const files = "-CAfile bundle.pem -untrusted svid.pem svid.pem";
    const verified = await node.vm.run(`cd ${FOLDER}/svid && openssl verify -x509_strict ${files}`);
    story.check(
      "OpenSSL verifies it with the bundle beside it",
      verified.code === 0,
      verified.stdout || verified.stderr,
    );
  } finally {
    daemon.kill("TERM");
    await daemon.exited;
  }
}
