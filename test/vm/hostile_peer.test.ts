// Peers that hold the wrong certificate, stall, drip, flood and talk nonsense (hostile_peer/*.py over OpenSSL), against programs that the module holds to their identity.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { FlowView } from "../../src/daemon/control/port.ts";
import { type ChainName, forgePeer } from "./hostile_peer/certificate.ts";
import type { VmProcess } from "./lab/agent.ts";
import { CHOSEN_KERNEL, KERNEL_LINES, SLOWDOWN } from "./lab/kernel.ts";
import { PROGRAM_DIR } from "./lab/product.ts";
import { bootNode, type RiprapNode } from "./node.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const DOMAIN = "peers.test";
const PROGRAM = `${PROGRAM_DIR}/hostile_peer`;
const MANAGED = "/srv/managed/hostile_peer";
/** Below that of a test, which tells less when it is over. */
const PEER_MS = 100_000 * SLOWDOWN;
const HANDSHAKE_SECONDS = 8 * Math.min(SLOWDOWN, 4);
/** Longer than the flood takes: what ends a handshake then is the next one. The longest that there is. */
const FLOOD_HANDSHAKE_SECONDS = 120;
/** A kernel that looks for its own faults opens a tenth as many a second. */
const FLOOD = CHOSEN_KERNEL ? 6000 : 10_000;
/** RIPRAP_HANDSHAKES_MAX of kernel/limits.h. */
const HANDSHAKES_MAX = 4096;
/** So many more. */
const RUSH = 200;

const RULES = `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: program }
spec: { workloadID: program, selectors: { process:exe: ${MANAGED} } }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: program }
spec:
  workloads: [program]
  mode: enforce
  egress: [{ to: [{ peer: program }, { peer: rogue/peer }, { peer: victim }], ports: [7001, 7002] }]
  ingress: [{ from: [{ peer: program }, { peer: rogue/peer }, { peer: victim }], ports: [7001] }]
`;

/** What the peer is told by alert (OpenSSL's words) when it presents each chain, and what is wrong with that. */
const CHAINS: Record<ChainName, string> = {
  good: "spoke",
  expired: "SSLV3_ALERT_CERTIFICATE_EXPIRED",
  not_yet_valid: "SSLV3_ALERT_CERTIFICATE_EXPIRED",
  foreign_root: "TLSV1_ALERT_UNKNOWN_CA",
  foreign_domain: "TLSV1_ALERT_UNKNOWN_CA",
  mis_constrained: "SSLV3_ALERT_BAD_CERTIFICATE",
  below_leaf_ca: "SSLV3_ALERT_BAD_CERTIFICATE",
  ca_as_leaf: "SSLV3_ALERT_BAD_CERTIFICATE",
  two_uris: "SSLV3_ALERT_BAD_CERTIFICATE",
  no_uri: "SSLV3_ALERT_BAD_CERTIFICATE",
  no_usage: "SSLV3_ALERT_BAD_CERTIFICATE",
  rsa_key: "TLSV13_ALERT_CERTIFICATE_REQUIRED",
  // Its grant says which IDs the node may issue, and this node signed the grant.
  other_node: "TLSV1_ALERT_ACCESS_DENIED",
};
const NAMES = Object.keys(CHAINS) as ChainName[];

/** What the peer is told when it sends what is no record of the connection. */
const GARBAGE = {
  clear_text: "SSLV3_ALERT_UNEXPECTED_MESSAGE",
  forged_record: "SSLV3_ALERT_BAD_RECORD_MAC",
  long_record: "TLSV1_ALERT_RECORD_OVERFLOW",
  // Shorter than any record that is sealed.
  clear_alert: "SSLV3_ALERT_BAD_RECORD_MAC",
  late_ccs: "SSLV3_ALERT_BAD_RECORD_MAC",
  hello_again: "SSLV3_ALERT_BAD_RECORD_MAC",
};

interface Line {
  role: "client" | "server";
  name: string;
  outcome: string;
  client: string;
  point: number | string;
  end: string;
  retried: boolean;
  early: string;
  resumed: boolean;
  answered: boolean;
}

for (const kernel of KERNEL_LINES) {
  describeVm(`hostile peers on kernel ${kernel}`, () => {
    let node: RiprapNode;
    let server: VmProcess;

    const peer = async (program: "peer" | "after", ...words: string[]): Promise<Line[]> => {
      const said = await node.vm.check(["python3", `/srv/peer/${program}.py`, ...words], { timeout: PEER_MS });
      return said
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Line);
    };
    const lengthenHandshakes = async () => {
      await node.stopDaemon();
      await node.writeConfig(`handshakeTimeout: ${FLOOD_HANDSHAKE_SECONDS}s\n`);
      await node.start();
    };
    /** Where a flood takes longer than the longest limit, the first of those that are left are ended by that. */
    const startLimit = () => {
      const begun = performance.now();
      return () => performance.now() - begun < FLOOD_HANDSHAKE_SECONDS * 1000;
    };
    /** Those that came while `use` ran. */
    const flowsDuring = async (use: () => Promise<void>): Promise<FlowView[]> => {
      const known = new Set((await node.flowsOf({})).map((flow) => flow.flow));
      await use();
      return (await node.flowsOf({})).filter((flow) => !known.has(flow.flow));
    };

    beforeAll(async () => {
      node = await bootNode({ kernel, name: "node" });
      await node.vm.check(`mkdir -p /srv/managed && cp ${PROGRAM} ${MANAGED}`);
      await node.riprap("init", DOMAIN, "--node", "node");
      const { files } = await forgePeer(node, DOMAIN);
      for (const [name, text] of Object.entries(files)) await node.vm.put(`/srv/peer/${name}`, text);
      for (const name of ["peer.py", "after.py"])
        await node.vm.put(`/srv/peer/${name}`, readFileSync(join(import.meta.dir, "hostile_peer", name)));
      await node.writeRules({ program: RULES });
      await node.writeConfig(`handshakeTimeout: ${HANDSHAKE_SECONDS}s\n`);
      await node.start();
      await node.vm.check("sysctl -qw net.core.somaxconn=4096 net.ipv4.tcp_max_syn_backlog=8192");
      server = node.vm.spawn([MANAGED, "serve", "7001"]);
      await node.vm.waitFor("ss -Hltn sport = :7001 | grep -q .");
    }, BOOT_TEST_MS);

    afterAll(() => node?.stop(), VM_TEST_MS);

    test(
      "a chain is accepted or refused with its alert when a peer presents it as client and as server",
      async () => {
        let lines: Line[] = [];
        const flows = await flowsDuring(async () => {
          lines = await peer("peer", "certificates", ...NAMES);
        });
        const of = (role: Line["role"]) =>
          Object.fromEntries(lines.filter((line) => line.role === role).map(({ name, outcome }) => [name, outcome]));
        expect(of("client")).toEqual(CHAINS);
        expect(of("server")).toEqual({ ...CHAINS, rsa_key: "NO_SUITABLE_SIGNATURE_ALGORITHM" });
        const programs = lines.filter((line) => line.role === "server");
        expect(Object.fromEntries(programs.map(({ name, client }) => [name, client === "spoke"]))).toEqual(
          Object.fromEntries(NAMES.map((name) => [name, CHAINS[name] === "spoke"])),
        );
        const refused = flows.filter((flow) => flow.reason === "peer_chain");
        expect(refused.filter((flow) => flow.direction === "inbound").length).toBe(NAMES.length - 2);
        expect(refused.filter((flow) => flow.direction === "outbound").length).toBe(NAMES.length - 2);
        expect(new Set(refused.map((flow) => flow.state))).toEqual(new Set(["denied"]));
      },
      VM_TEST_MS,
    );

    test(
      "a handshake is ended by its limit when the peer stalls at any of its messages",
      async () => {
        let lines: Line[] = [];
        const flows = await flowsDuring(async () => {
          lines = await peer("peer", "stalls");
        });
        expect(lines.filter((line) => line.role === "client").length).toBe(9);
        // Before a second ClientHello and within it; and as server, before the answer to one.
        expect(lines.filter(({ retried }) => retried).map(({ role }) => role)).toEqual(
          expect.arrayContaining(["client", "client", "server"]),
        );
        expect(lines.filter((line) => line.role === "server").map(({ client }) => client)).not.toContain("spoke");
        const late = flows.filter((flow) => flow.reason === "timeout");
        expect(late.filter((flow) => flow.direction === "inbound").length).toBe(9);
        expect(late.filter((flow) => flow.direction === "outbound").length).toBe(8);
      },
      VM_TEST_MS,
    );

    test(
      "a peer is served when it sends its handshake byte by byte within the limit",
      async () => {
        expect(await peer("peer", "drip")).toEqual([{ name: "drip", outcome: "spoke" }] as unknown as Line[]);
      },
      VM_TEST_MS,
    );

    test(
      "the program is told why riprap refused when the peer's reset comes before the refusal's end",
      async () => {
        let lines: Line[] = [];
        const flows = await flowsDuring(async () => {
          lines = await peer("peer", "leave");
        });
        expect(lines.map(({ client }) => client)).toEqual(["EACCES", "EACCES", "EACCES"]);
        expect(flows.map(({ reason, error }) => [reason, error])).toEqual(flows.map(() => ["peer_chain", "EACCES"]));
        expect(flows.length).toBe(3);
      },
      VM_TEST_MS,
    );

    test(
      "a peer that knows TLS 1.2 alone is refused as client and as server",
      async () => {
        expect(await peer("peer", "old")).toEqual([
          { role: "client", outcome: "TLSV1_ALERT_PROTOCOL_VERSION" },
          { role: "server", outcome: "UNSUPPORTED_PROTOCOL", client: "ECONNREFUSED" },
        ] as unknown as Line[]);
      },
      VM_TEST_MS,
    );

    test(
      "a server is refused when it asks its client for no certificate, however good its own is",
      async () => {
        const flows = await flowsDuring(async () => {
          expect(await peer("peer", "unasking")).toEqual([
            { role: "server", outcome: "SSLV3_ALERT_HANDSHAKE_FAILURE", client: "ECONNRESET" },
          ] as unknown as Line[]);
        });
        expect(flows).toMatchObject([{ direction: "outbound", state: "failed", alert: "sent handshake_failure" }]);
      },
      VM_TEST_MS,
    );

    test(
      "both programs get ECONNRESET, and the peer its alert, when bytes come that are no record of the connection",
      async () => {
        let lines: Line[] = [];
        const heard = server.stdout.length;
        const flows = await flowsDuring(async () => {
          lines = await peer("after", "garbage");
        });
        for (const role of ["client", "server"]) {
          const told = lines.filter((line) => line.role === role);
          expect(Object.fromEntries(told.map(({ name, outcome }) => [name, outcome]))).toEqual(GARBAGE);
        }
        const clients = lines.filter((line) => line.role === "server");
        expect(clients.map(({ client }) => client)).toEqual(Object.keys(GARBAGE).map(() => "ECONNRESET"));
        const kinds = Object.keys(GARBAGE).length;
        expect(server.stdout.slice(heard)).toBe("broke ECONNRESET\n".repeat(kinds));
        expect(flows.map(({ reason }) => reason)).toEqual(Array.from({ length: 2 * kinds }, () => "record"));
      },
      VM_TEST_MS,
    );

    test(
      "a connection ends at the first KeyUpdate when the peer sends a flood of them",
      async () => {
        let lines: Line[] = [];
        const heard = server.stdout.length;
        const flows = await flowsDuring(async () => {
          lines = await peer("after", "key_update");
        });
        expect(lines.length).toBe(4);
        expect(lines.filter(({ role }) => role === "server").map(({ client }) => client)).toEqual([
          "ECONNRESET",
          "ECONNRESET",
        ]);
        expect(server.stdout.slice(heard)).toBe("broke ECONNRESET\n".repeat(2));
        expect(flows.map(({ reason }) => reason)).toEqual(Array.from({ length: 4 }, () => "key_update"));
      },
      VM_TEST_MS,
    );

    test(
      "early data is passed over when its PSK is accepted, and ends the handshake when it is more than 16 KiB; the program sees none of it",
      async () => {
        let lines: Line[] = [];
        const heard = server.stdout.length;
        const flows = await flowsDuring(async () => {
          lines = await peer("after", "early_data");
        });
        const passed = { resumed: true, early: "Early data was rejected", outcome: "word" };
        expect(lines.slice(0, 2)).toMatchObject([passed, passed]);
        expect(lines[2]?.outcome).not.toBe("word");
        expect(server.stdout.slice(heard)).toBe("broke ECONNRESET\n");
        // Each has a connection before it, which brings the ticket.
        const whole = { state: "closed", bytesReceived: "word\n".length } as const;
        const first = { ...whole, resumed: false };
        const refused = { state: "failed", bytesReceived: 0, alert: "sent unexpected_message" } as const;
        expect(flows).toMatchObject([
          first,
          { ...whole, resumed: true },
          first,
          { ...whole, resumed: true },
          first,
          refused,
        ]);
      },
      VM_TEST_MS,
    );

    test(
      "the program sees no byte of a resumption when all of it is sent a second time",
      async () => {
        let lines: Line[] = [];
        const flows = await flowsDuring(async () => {
          lines = await peer("after", "replay");
        });
        expect(lines).toMatchObject([{ resumed: true, answered: true }]);
        expect(lines[0]?.outcome).toMatch(/closed|reset/);
        const replayed = flows.at(-1);
        expect(replayed).toMatchObject({ state: "failed", reason: "tls_alert", bytesReceived: 0 });
      },
      VM_TEST_MS,
    );

    test(
      `the oldest give way, and who speaks is served, when ${FLOOD} connections are half open; memory comes back`,
      async () => {
        await lengthenHandshakes();
        const meminfoKb = async (line: string) =>
          Number(await node.vm.check(`awk '/${line}/ { print $2 }' /proc/meminfo`));
        const freeKb = () => meminfoKb("MemAvailable");
        const before = await freeKb();
        // KASAN holds back as much of what was freed.
        const quarantine = CHOSEN_KERNEL ? (await meminfoKb("MemTotal")) / 32 : 0;
        const friend = node.vm.spawn([MANAGED, "later", "7001", "word"]);
        const isWithinLimit = startLimit();
        const flood = node.vm.spawn([PROGRAM, "flood", "7001", `${FLOOD}`, `${HANDSHAKES_MAX}`]);
        const oldest = FLOOD - HANDSHAKES_MAX;
        await flood.waitOutput(/^flood .*\n/m, 2 * VM_TEST_MS);
        const [, reset = Number.NaN] = /reset (\d+)/.exec(flood.stdout)?.map(Number) ?? [];
        expect(reset).toBeGreaterThanOrEqual(oldest);
        if (isWithinLimit()) expect(flood.stdout).toBe(`flood ${FLOOD} reset ${oldest} last ${oldest}\n`);
        const during = await freeKb();
        friend.endInput();
        await friend.waitOutput(/^spoke$/m);
        // Now, while the daemon still knows of all of them.
        const flows = (await node.ask("flows", "--limit", "10000")).filter(({ reason }) => reason === "crowded");
        if (isWithinLimit()) expect(flows.length).toBe(oldest + 1);
        else
          process.stderr.write(
            "not held: who gave way, for the handshakes' limit ended the flood before it was whole\n",
          );
        const ends = new Set(flows.map(({ state, error, direction }) => `${state} ${error} ${direction}`));
        expect(ends.difference(new Set(["failed ECONNRESET inbound"]))).toEqual(new Set());
        flood.endInput();
        await flood.exited;
        // Room for the friend, whose handshake was one too many.
        if (isWithinLimit())
          expect(flood.stdout.split("\n")[1]).toBe(`flood ${FLOOD} reset ${oldest + 1} last ${oldest + 1}`);
        // What limits.h says of a handshake, and both ends of every connection.
        expect(before - during).toBeLessThan(HANDSHAKES_MAX * 100 + FLOOD * 16 + quarantine);
        await node.vm.waitFor(`[ $(awk '/MemAvailable/ { print $2 }' /proc/meminfo) -gt ${before - 100_000} ]`);
      },
      4 * VM_TEST_MS,
    );

    test(
      "another program connects when one has more handshakes under way, with a server that never says a word, than there may be",
      async () => {
        const silent = node.vm.spawn([
          "python3",
          "-c",
          "import socket, sys; s = socket.create_server(('127.0.0.1', 7002), backlog=4096); sys.stdin.read()",
        ]);
        await node.vm.waitFor("ss -Hltn sport = :7002 | grep -q .");
        await lengthenHandshakes();
        const isWithinLimit = startLimit();
        const rush = node.vm.spawn([MANAGED, "rush", "7002", `${HANDSHAKES_MAX + RUSH}`, `${HANDSHAKES_MAX}`]);
        await rush.waitOutput(/^flood .*\n/m, 2 * VM_TEST_MS);
        const isInTime = isWithinLimit();
        if (isInTime) expect(rush.stdout).toStartWith(`flood ${HANDSHAKES_MAX + RUSH} reset ${RUSH} `);
        expect(await node.vm.check([MANAGED, "connect", "7001", "word"])).toBe("spoke\n");
        const crowded = (await node.ask("flows", "--limit", "10000")).filter(
          ({ reason, direction }) => reason === "crowded" && direction === "outbound",
        );
        // One more for who connected after it.
        if (isInTime) expect(crowded.length).toBe(RUSH + 1);
        expect(new Set(crowded.map(({ state, error }) => `${state} ${error}`))).toEqual(new Set(["failed ECONNRESET"]));
        rush.kill("KILL");
        silent.endInput();
        await Promise.all([rush.exited, silent.exited]);
      },
      4 * VM_TEST_MS,
    );
  });
}
