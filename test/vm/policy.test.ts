// What each mode and each kind of TLS in a rule means to real programs, over IPv4 and IPv6: mutual, passthrough, plain, permissive, observe.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { VmProcess } from "./lab/agent.ts";
import { KERNEL_LINES } from "./lab/kernel.ts";
import { bootNode, type RiprapNode } from "./node.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const PORT = { enforce: 7001, permissive: 7002, observe: 7003, passthrough: 7004, plain: 7005, wrapped: 7006 } as const;
const OLDER_PORT = 7007;
const CLIENT = "/srv/bin/client"; // copies of one program: who runs it decides what becomes of its connections
const STRANGER = "/usr/bin/curl"; // selected by no rule
const id = (name: string) => `spiffe://modes.test/${name}`;

function identity(name: string, exe: string): string {
  return `---
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: ${name} }
spec: { workloadID: ${name}, selectors: { process:exe: ${exe} } }
`;
}

function policy(name: string, mode: string, body: string): string {
  return `---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: ${name} }
spec: { workloads: [${name}], mode: ${mode}, ${body} }
`;
}

const web = (name: string) => `/srv/bin/${name}`;
const RULES = [
  identity("client", CLIENT),
  identity("tls-client", "/srv/bin/openssl-client"),
  ...["enforce", "permissive", "observe", "plain"].map((name) => identity(name, web(name))),
  identity("passthrough", "/srv/bin/openssl-passthrough"),
  identity("wrapped", "/srv/bin/openssl-wrapped"),
  policy(
    "client",
    "enforce",
    `egress: [
      { to: [{ peer: enforce }, { peer: permissive }], ports: [${PORT.enforce}, ${PORT.permissive}] },
      { to: [{ address: 0.0.0.0/0 }], ports: [${PORT.passthrough}], tls: passthrough },
      { to: [{ address: 0.0.0.0/0 }], ports: [${PORT.plain}], tls: plain }]`,
  ),
  policy(
    "tls-client",
    "enforce",
    `egress: [
      { to: [{ peer: wrapped }], ports: [${PORT.wrapped}] },
      { to: [{ address: 0.0.0.0/0 }], ports: [${PORT.passthrough}], tls: passthrough }]`,
  ),
  policy("enforce", "enforce", `ingress: [{ from: [{ peer: client }], ports: [${PORT.enforce}] }]`),
  policy("permissive", "permissive", `ingress: [{ from: [{ peer: client }], ports: [${PORT.permissive}] }]`),
  policy("observe", "observe", `ingress: [{ from: [{ peer: client }], ports: [${PORT.observe}] }]`),
  policy("plain", "enforce", `ingress: [{ from: [{ address: 0.0.0.0/0 }], ports: [${PORT.plain}], tls: plain }]`),
  policy(
    "passthrough",
    "enforce",
    `ingress: [{ from: [{ address: 0.0.0.0/0 }], ports: [${PORT.passthrough}], tls: passthrough }]`,
  ),
  policy("wrapped", "enforce", `ingress: [{ from: [{ peer: tls-client }], ports: [${PORT.wrapped}] }]`),
].join("");

// A server of one page on both families, as a program file of its own: a copy of python3 needs its library by PYTHONHOME.
const SERVER =
  "import http.server,socket,sys;C=type('C',(http.server.ThreadingHTTPServer,),{'address_family':socket.AF_INET6});C(('::',int(sys.argv[1])),http.server.SimpleHTTPRequestHandler).serve_forever()";
const HELLO = "printf 'GET /page HTTP/1.0\\r\\n\\r\\n'";

/** Gives one that was there before the module, and that no rule selects. */
async function startServers(node: RiprapNode): Promise<VmProcess> {
  const { vm } = node;
  await vm.check("mkdir -p /srv/bin /srv/www && echo 'a page' >/srv/www/page");
  await vm.check(`cp /usr/bin/curl ${CLIENT}`);
  for (const name of ["client", "passthrough", "wrapped"])
    await vm.check(`cp /usr/bin/openssl /srv/bin/openssl-${name}`);
  await vm.check(
    "cd /srv && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=app -days 2 -keyout app.key -out app.crt 2>/dev/null",
  );
  const older = vm.spawn(`cd /srv/www && exec python3 -c "${SERVER}" ${OLDER_PORT}`);
  await vm.waitFor(`ss -Hltn sport = :${OLDER_PORT} | grep -q .`);
  await node.riprap("init", "modes.test", "--node", "a");
  await node.writeRules({ all: RULES });
  await node.start();
  for (const name of ["enforce", "permissive", "observe", "plain"] as const) {
    await vm.check(`cp "$(readlink -f /usr/bin/python3)" ${web(name)}`);
    vm.spawn(`cd /srv/www && exec ${web(name)} -c "${SERVER}" ${PORT[name]}`, { env: { PYTHONHOME: "/usr" } });
  }
  for (const name of ["passthrough", "wrapped"] as const)
    vm.spawn(
      `cd /srv/www && exec /srv/bin/openssl-${name} s_server -quiet -WWW -accept ${PORT[name]} -cert /srv/app.crt -key /srv/app.key`,
    );
  for (const port of Object.values(PORT)) await vm.waitFor(`ss -Hltn sport = :${port} | grep -q .`);
  return older;
}

for (const kernel of KERNEL_LINES) {
  describeVm(`rules on kernel ${kernel}`, () => {
    let node: RiprapNode;
    let older: VmProcess;
    const get = (program: string, port: number, host = "127.0.0.1") =>
      node.vm.run([program, "-sS", "--max-time", "30", `http://${host}:${port}/page`]);
    const tlsGet = (port: number) =>
      node.vm.run(
        `{ ${HELLO}; sleep 3; } | timeout 30 /srv/bin/openssl-client s_client -quiet -CAfile /srv/app.crt -connect 127.0.0.1:${port} 2>/dev/null`,
      );
    const last = async (match: Parameters<RiprapNode["flowsOf"]>[0], port: number, end: "local" | "remote") =>
      (await node.flowsOf(match)).filter((flow) => flow[end].endsWith(`:${port}`)).at(-1);

    beforeAll(async () => {
      node = await bootNode({ kernel });
      older = await startServers(node);
    }, BOOT_TEST_MS);
    afterAll(() => node?.stop(), VM_TEST_MS);

    test(
      "no rule about a server that was there before the module: it does not hold the module",
      async () => {
        for (const _ of [1, 2]) expect((await get(STRANGER, OLDER_PORT)).stdout).toBe("a page\n");
        const references = () => node.vm.check("cat /sys/module/riprap/refcnt");
        const held = await references();
        older.kill();
        await older.exited;
        expect(await references()).toBe(held);
      },
      VM_TEST_MS,
    );

    test(
      "enforce takes the allowed peer over IPv4 and IPv6, and closes an unmanaged one at accept",
      async () => {
        expect((await get(CLIENT, PORT.enforce)).stdout).toBe("a page\n");
        expect((await get(CLIENT, PORT.enforce, "[::1]")).stdout).toBe("a page\n");
        expect(await last({ own: id("client") }, PORT.enforce, "remote")).toMatchObject({
          peer: id("enforce"),
          tls: "TLS 1.3",
        });
        const stranger = await get(STRANGER, PORT.enforce);
        expect([stranger.code === 0, stranger.stdout]).toEqual([false, ""]);
        expect(await last({ own: id("enforce") }, PORT.enforce, "local")).toMatchObject({ reason: "peer_plaintext" });
      },
      VM_TEST_MS,
    );

    test(
      "permissive takes mutual TLS and plaintext, and the flow of plaintext says so",
      async () => {
        expect((await get(CLIENT, PORT.permissive)).stdout).toBe("a page\n");
        expect(await last({ own: id("permissive") }, PORT.permissive, "local")).toMatchObject({
          tls: "TLS 1.3",
          wouldDeny: false,
        });
        expect((await get(STRANGER, PORT.permissive)).stdout).toBe("a page\n");
        expect(await last({ own: id("permissive") }, PORT.permissive, "local")).toMatchObject({
          tls: "plain",
          wouldDeny: true,
        });
      },
      VM_TEST_MS,
    );

    test(
      "observe lets a stranger in and says that it would have been refused",
      async () => {
        expect((await get(STRANGER, PORT.observe)).stdout).toBe("a page\n");
        expect(await last({ own: id("observe") }, PORT.observe, "local")).toMatchObject({
          tls: "plain",
          mode: "observe",
        });
      },
      VM_TEST_MS,
    );

    test(
      "a program's own TLS is left alone under passthrough, and plaintext there is cut",
      async () => {
        expect((await tlsGet(PORT.passthrough)).stdout).toContain("a page");
        expect(await last({ own: id("tls-client") }, PORT.passthrough, "remote")).toMatchObject({ tls: "passthrough" });
        const plaintext = await get(CLIENT, PORT.passthrough);
        expect([plaintext.code === 0, plaintext.stdout]).toEqual([false, ""]);
        expect(await last({ own: id("client") }, PORT.passthrough, "remote")).toMatchObject({ reason: "not_tls" });
      },
      VM_TEST_MS,
    );

    test(
      "a program's own TLS is carried inside an authenticated connection when the rule says nothing else",
      async () => {
        expect((await tlsGet(PORT.wrapped)).stdout).toContain("a page");
        expect(await last({ own: id("tls-client") }, PORT.wrapped, "remote")).toMatchObject({
          tls: "TLS 1.3",
          peer: id("wrapped"),
        });
      },
      VM_TEST_MS,
    );

    test(
      "plain by explicit rule is plain, and a port that no rule names is refused",
      async () => {
        expect((await get(CLIENT, PORT.plain)).stdout).toBe("a page\n");
        expect(await last({ own: id("client") }, PORT.plain, "remote")).toMatchObject({
          tls: "plain",
          wouldDeny: false,
        });
        expect((await get(CLIENT, PORT.observe)).stderr).toContain("Couldn't connect");
        expect(await last({ own: id("client") }, PORT.observe, "remote")).toMatchObject({
          state: "denied",
          reason: "no_rule",
        });
      },
      VM_TEST_MS,
    );
  });
}
