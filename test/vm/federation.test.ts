// Two nodes of two trust domains: nothing is trusted before bundles are exchanged, then one foreign ID and no other, and nothing again when the rule goes.
//
//   alpha.test 10.77.0.1                 beta.test 10.77.0.2
//   /srv/bin/client, /srv/bin/other ---> /srv/bin/web :8000      bundles: by command to alpha, by endpoint to beta
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { DomainView } from "../../src/daemon/control/bundle.ts";
import { CHOSEN_KERNEL } from "./lab/kernel.ts";
import { openSegment, type Segment } from "./lab/segment.ts";
import { bootNode, type RiprapNode } from "./node.ts";
import { identity, policy } from "./rule.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

/** What the riprap command asks, without the second that it takes to start under emulation. */
const CONTROL = "curl -sS --unix-socket /run/riprap/control.sock http://riprap/v1";
const PORT = 8000;
const ENDPOINT_PORT = 8443;
const domain = (spec: string) => `
apiVersion: riprap.io/v1
kind: TrustDomain
metadata: { name: partner }
spec: { ${spec} }
`;
const TO_WEB = `egress: [{ to: [{ peer: spiffe://beta.test/web }], ports: [${PORT}] }]`;
const ALPHA_RULES = [...["client", "other"].flatMap((name) => [identity(name), policy(name, TO_WEB)])].join("");
const FROM_CLIENT = `ingress: [{ from: [{ peer: spiffe://alpha.test/client }], ports: [${PORT}] }]`;
const BETA_RULES = identity("web") + policy("web", FROM_CLIENT);

describeVm(`federation on kernel ${CHOSEN_KERNEL ?? "6.12"}`, () => {
  let segment: Segment;
  let alpha: RiprapNode;
  let beta: RiprapNode;
  const url = () => `http://${beta.vm.address}:${PORT}/page`;
  const get = (program: string) => alpha.vm.run([`/srv/bin/${program}`, "-sS", "--max-time", "20", url()]);

  beforeAll(async () => {
    segment = await openSegment();
    const kernel = CHOSEN_KERNEL ?? "6.12";
    [alpha, beta] = await Promise.all([
      bootNode({ kernel, name: "alpha", segment, capture: false }),
      bootNode({ kernel, name: "beta", segment, capture: false }),
    ]);
    await Promise.all([prepareAlpha(), prepareBeta()]);
  }, BOOT_TEST_MS);

  afterAll(async () => {
    await Promise.all([alpha?.stop(), beta?.stop()]);
    await segment?.close();
  }, VM_TEST_MS);

  async function prepareAlpha(): Promise<void> {
    await alpha.vm.check("mkdir -p /srv/bin && cp /usr/bin/curl /srv/bin/client && cp /usr/bin/curl /srv/bin/other");
    await alpha.riprap("init", "alpha.test", "--node", "alpha");
    await alpha.writeConfig(`bundleListen: 0.0.0.0:${ENDPOINT_PORT}\n`);
    await alpha.writeRules({ all: ALPHA_RULES, partner: domain("trustDomain: beta.test") });
    await alpha.start();
  }

  async function prepareBeta(): Promise<void> {
    await beta.vm.check('mkdir -p /srv/bin /srv/www && cp "$(readlink -f /usr/bin/python3)" /srv/bin/web');
    await beta.vm.check("echo 'a page' >/srv/www/page && head -c 64M /dev/zero >/srv/www/big");
    await beta.riprap("init", "beta.test", "--node", "beta");
    await beta.writeRules({ all: BETA_RULES });
    await beta.start();
    const server = `cd /srv/www && exec /srv/bin/web -m http.server ${PORT}`;
    beta.vm.spawn(server, { env: { PYTHONHOME: "/usr" } });
    await beta.vm.waitFor(`ss -Hltn sport = :${PORT} | grep -q .`);
  }

  test(
    "no bundle: a foreign workload that every rule allows is refused",
    async () => {
      const refused = await get("client");
      expect([refused.code === 0, refused.stdout]).toEqual([false, ""]);
      const flows = await alpha.flowsOf({ own: "spiffe://alpha.test/client" });
      expect(flows.at(-1)).toMatchObject({ reason: "peer_chain", alert: "sent unknown_ca" });
    },
    VM_TEST_MS,
  );

  test(
    "bundles by command and by endpoint: the allowed foreign ID speaks mutual TLS, another is refused",
    async () => {
      const document = await beta.riprap("bundle", "show", "--format", "spiffe");
      await alpha.vm.put("/root/beta.json", document.stdout);
      await alpha.riprap("bundle", "set", "beta.test", "/root/beta.json");
      const first = await alpha.riprap("bundle", "show", "--format", "spiffe");
      await beta.vm.put("/etc/riprap/alpha.json", first.stdout);
      const from = `endpoint: { url: "https://${alpha.vm.address}:${ENDPOINT_PORT}/bundle", profile: https_spiffe, spiffeID: spiffe://alpha.test/riprap/bundle-endpoint }`;
      await beta.vm.put(
        "/root/partner.yaml",
        domain(`trustDomain: alpha.test, bundle: { file: /etc/riprap/alpha.json }, ${from}`),
      );
      await beta.riprap("apply", "-f", "/root/partner.yaml");

      expect((await get("client")).stdout).toBe("a page\n");
      const [flow] = await beta.flowsOf({ own: "spiffe://beta.test/web", peer: "spiffe://alpha.test/client" });
      expect(flow).toMatchObject({ tls: "TLS 1.3", rule: "AccessPolicy/web#ingress[0]" });
      const other = await get("other");
      expect([other.code === 0, other.stdout]).toEqual([false, ""]);
      const refused = await beta.flowsOf({ peer: "spiffe://alpha.test/other" });
      expect(refused.at(-1)).toMatchObject({ reason: "peer_id" });

      await beta.vm.waitFor(`${CONTROL}/bundles | grep -q fetchedAt`);
      const listed: DomainView[] = JSON.parse(await beta.vm.check(`${CONTROL}/bundles`));
      expect(listed.find(({ trustDomain }) => trustDomain === "alpha.test")?.endpoint).toMatchObject({ failures: 0 });
    },
    VM_TEST_MS,
  );

  test(
    "the TrustDomain goes: the established connection is cut, and the next one refused",
    async () => {
      const slow = alpha.vm.spawn(
        `exec /srv/bin/client -sS --limit-rate 100k -o /dev/null http://${beta.vm.address}:${PORT}/big`,
      );
      await beta.vm.waitFor(`${CONTROL}/flows?live=1 | grep -q alpha.test/client`);
      await beta.riprap("delete", "TrustDomain", "partner");
      expect(await slow.exited).not.toBe(0);
      const flows = await beta.flowsOf({ peer: "spiffe://alpha.test/client", state: "cut" });
      expect(flows.at(-1)).toMatchObject({ reason: "revoked" });
      expect((await get("client")).code).not.toBe(0);
    },
    VM_TEST_MS,
  );
});
