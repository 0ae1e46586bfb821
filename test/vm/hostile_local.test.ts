// A managed program that tries every way round its rules (program/hostile_local.c), and strangers at the device: what stops, and what does not.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { CHOSEN_KERNEL, KERNEL_LINES } from "./lab/kernel.ts";
import { PROGRAM_DIR } from "./lab/product.ts";
import { bootNode, enrolNodes, type RiprapNode } from "./node.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const MANAGED = "/srv/managed/hostile_local";
const STRANGER = `${PROGRAM_DIR}/hostile_local`;

const RULES = `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: program }
spec: { workloadID: program, selectors: { process:exe: /srv/managed/* } }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: program }
spec:
  workloads: [program]
  mode: enforce
  egress:
    - { to: [{ peer: program }], ports: [7001, 7003] }
    - { to: [{ address: 127.0.0.9 }], action: deny }
  ingress: [{ from: [{ peer: program }], ports: [7001] }]
`;

/**
 * What becomes of each attempt to say a word to a server on port 7002, which no rule allows (or on 7001, where the case is about an
 * allowed connection). SECURITY.md tells those that are not stopped.
 */
const OUTCOME: Record<string, { outcome: string; why: string }> = {
  allowed: { outcome: "spoke", why: "the rule allows it" },
  denied: { outcome: "EACCES", why: "no rule allows it" },
  fork_and_connect: { outcome: "EACCES", why: "a child is held to its own identity, which is the same program's" },
  vfork_and_connect: { outcome: "EACCES", why: "as fork" },
  exec_itself: { outcome: "EACCES", why: "executed anew, selected anew" },
  exec_stranger: { outcome: "spoke", why: "not stopped: what it becomes is another program, which no rule selects" },
  setuid_and_connect: { outcome: "EACCES", why: "the rule goes by the executable" },
  dup_before_exec: { outcome: "spoke", why: "not stopped: an unconnected socket is of who connects it" },
  socket_over_exec: { outcome: "EACCES", why: "a socket that came over exec is taken over before the program runs" },
  connection_over_exec: { outcome: "spoke", why: "not stopped: a connection stays what its opener made it" },
  unshare_user: { outcome: "EACCES", why: "an identity is not of a namespace" },
  unshare_net: { outcome: "EACCES", why: "the rules hold in every network namespace" },
  unshare_pid: { outcome: "EACCES", why: "a process is known by its start, not by its number" },
  setns_net: { outcome: "EACCES", why: "as unshare_net" },
  ptrace_rewrite: { outcome: "EACCES", why: "the verdict is on the kernel's own copy of the address" },
  give_connection: { outcome: "spoke", why: "not stopped: who gets a connection speaks on it as its opener" },
  give_socket: { outcome: "spoke", why: "not stopped: an unconnected socket is of who connects it" },
  take_socket: { outcome: "EACCES", why: "a socket from elsewhere is refused at connect()" },
  take_connection: { outcome: "spoke", why: "not stopped: a connection stays what its opener made it" },
  pidfd_socket: { outcome: "EACCES", why: "as take_socket" },
  pidfd_connection: { outcome: "spoke", why: "not stopped: as take_connection" },
  uring_worker: { outcome: "EACCES", why: "a worker of io_uring is a thread of its program" },
  uring_poller: { outcome: "EACCES", why: "as uring_worker" },
  uring_socket: { outcome: "EACCES", why: "a socket made by a worker is its program's" },
  fastopen_send: { outcome: "EACCES", why: "MSG_FASTOPEN is a connect()" },
  fastopen_option: { outcome: "EACCES", why: "the option is taken and does nothing" },
  tcp_ulp: { outcome: "ENOENT", why: "there is one ULP, and it is ours" },
  tcp_repair: { outcome: "EPERM", why: "it would read and set what TLS rests on" },
  sol_tls: { outcome: "ENOPROTOOPT", why: "keys are not the program's to set" },
  attach_bpf: { outcome: "spoke", why: "a filter of a socket sees the records, which are encrypted" },
  sockmap: { outcome: "EINVAL", why: "what has a ULP joins no map of sockets" },
  kcm_attached: {
    outcome: "EPERM",
    why: "what it writes is sealed, and its parser is given records, which it refuses",
  },
  reconnect: { outcome: "EOPNOTSUPP", why: "what kTLS has is not dissolved: it can only be closed" },
  smc_socket: {
    outcome: "EACCES",
    why: "its TCP socket is the kernel's, but it connects in the program's own context",
  },
  udp: { outcome: "sent", why: "not stopped: only TCP is mediated" },
  raw_tcp: { outcome: "sent", why: "not stopped: CAP_NET_RAW is a right to send anything" },
  packet: { outcome: "opened", why: "not stopped: as raw_tcp" },
  mptcp: { outcome: "ENOPROTOOPT", why: "its TCP sockets would be of no program" },
  raw_without_right: { outcome: "EPERM", why: "the kernel's own check" },
  vsock: { outcome: "spoke", why: "not stopped: only TCP is mediated" },
  unspecified_v4: { outcome: "EACCES", why: "the verdict is on the address to which TCP goes: here a denied one" },
  unspecified_mapped: { outcome: "EACCES", why: "as unspecified_v4" },
  race_connect: { outcome: "held", why: "of several threads that connect one socket again one is first" },
  race_send: { outcome: "spoke", why: "what is sent before there is a connection enters none" },
};

// The kernels that look for their own faults are built without these families.
if (CHOSEN_KERNEL)
  for (const name of ["kcm_attached", "smc_socket"]) OUTCOME[name] = { outcome: "EAFNOSUPPORT", why: "there is none" };

for (const kernel of KERNEL_LINES) {
  describeVm(`a hostile program on kernel ${kernel}`, () => {
    let node: RiprapNode;
    let outcomes: Map<string, string>;

    beforeAll(async () => {
      node = await bootNode({ kernel, name: "node" });
      await node.vm.check(`mkdir -p /srv/managed && cp ${STRANGER} ${MANAGED}; modprobe vsock_loopback`);
      await enrolNodes("edge.test", [node]);
      await node.writeRules({ program: RULES });
      await node.start();
      node.vm.spawn([STRANGER, "stranger"]);
      node.vm.spawn([MANAGED, "serve"]);
      await node.vm.waitFor("test -S /tmp/stranger && ss -Hltn sport = :7001 | grep -q .");
      const wire = node.vm.spawn(["tcpdump", "-i", "lo", "-s", "0", "-U", "-w", "/tmp/wire", "tcp port 7001"]);
      await node.vm.waitFor("test -s /tmp/wire");
      const said = await node.vm.run([MANAGED, "all"]);
      wire.kill("INT");
      await wire.exited;
      const lines = said.stdout.split("\n").filter(Boolean);
      outcomes = new Map(lines.map((line) => line.split(" ", 2) as [string, string]));
    }, BOOT_TEST_MS);

    afterAll(() => node?.stop(), VM_TEST_MS);

    for (const [name, { outcome, why }] of Object.entries(OUTCOME))
      test(`${name}() ends with ${outcome} when a managed program tries it: ${why}`, () => {
        expect(outcomes.get(name)).toBe(outcome);
      });

    test(
      "nothing but what is known not to be stopped reaches the stranger when all has been tried",
      async () => {
        const open = Object.entries(OUTCOME).filter(
          ([name, { outcome, why }]) =>
            outcome === "spoke" && why.startsWith("not stopped") && name !== "give_connection",
        );
        const heard = await node.vm.check(["cat", "/tmp/heard"]);
        expect(heard.split("\n").filter(Boolean).sort()).toEqual(open.map(([name]) => name).sort());
      },
      VM_TEST_MS,
    );

    test(
      "no word is in the clear on the allowed port when all has been tried",
      async () => {
        const wire = Buffer.from(await node.vm.get("/tmp/wire"));
        expect(wire.length).toBeGreaterThan(10_000);
        // Three letters would be found in any hundred kilobytes of records.
        expect(Object.keys(OUTCOME).filter((name) => name.length > 5 && wire.includes(name))).toEqual([]);
        // What went by way of the multiplexer did arrive.
        const arrived = (await node.flowsOf({})).filter((flow) => flow.direction === "inbound");
        if (!CHOSEN_KERNEL) expect(arrived.map((flow) => flow.bytesReceived)).toContain("kcm_attached".length);
      },
      VM_TEST_MS,
    );

    test(
      "every refusal is a flow record when a program was refused",
      async () => {
        const denied = await node.flowsOf({ state: "denied" });
        const reasons = new Set(denied.map((flow) => flow.reason));
        expect(reasons).toEqual(new Set(["rule", "no_rule", "foreign_socket"]));
        expect(denied.every((flow) => flow.error === "EACCES")).toBe(true);
        expect(denied.length).toBe(Object.values(OUTCOME).filter(({ outcome }) => outcome === "EACCES").length);
      },
      VM_TEST_MS,
    );

    test(
      "open() of the device refuses when it is open, to another user, and to root of another user namespace",
      async () => {
        const attempt = "exec 3<>/dev/riprap";
        const errorOf = async (command: string, uid: number) =>
          (await node.vm.run(["bash", "-c", command], { uid })).stderr;
        expect(await errorOf(attempt, 0)).toContain("Device or resource busy");
        expect(await errorOf(attempt, 1000)).toContain("Permission denied");
        // The mode of the node is not what protects it.
        await node.vm.check("chmod 666 /dev/riprap");
        expect(await errorOf(attempt, 1000)).toContain("Operation not permitted");
        expect(await errorOf(`unshare --user --map-root-user bash -c 'id -u >&2; ${attempt}'`, 1000)).toMatch(
          /^0\n.*Operation not permitted/,
        );
        await node.vm.check("chmod 600 /dev/riprap");
        expect(await node.ask("status")).toBeDefined();
      },
      VM_TEST_MS,
    );

    test(
      "a program under the path of another is not taken for it when a user has mounted it there in a namespace of his own",
      async () => {
        const forge = `mount --bind /usr/lib/riprap/program/hostile_local ${MANAGED} && exec ${MANAGED} connect forged`;
        const connect = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", forge];
        // Held to the rules of `program` it would be refused: it is nobody, and speaks in the clear.
        expect((await node.vm.run(connect, { uid: 1000 })).stdout).toBe("spoke\n");
        expect((await node.vm.run([MANAGED, "connect", "honest"], { uid: 1000 })).stdout).toBe("EACCES\n");
      },
      VM_TEST_MS,
    );
  });
}
