// One allocation fails, the n-th, for each n between a new process and its first byte, in the renewal of an SVID, and in a signature of the CA: what
// the program gets is an errno, and whoever comes next is served. Needs the debug kernel, which can make allocations fail: `./run test --debug-kernel`.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { VmProcess } from "./lab/agent.ts";
import { LOAD_MODULE, PROGRAM_DIR } from "./lab/product.ts";
import { bootVm, type Vm } from "./lab.ts";
import { BOOT_TEST_MS, describeDebugVm, VM_TEST_MS } from "./tier.ts";

/** The name that the table of fault.c selects. */
const PROGRAM = "/srv/riprap-child";
/** `RIPRAP_SHORTAGE_STEP=1` takes every n and half an hour; a run of all tests takes every seventh. */
const STEP = Number(process.env["RIPRAP_SHORTAGE_STEP"] ?? 7);
const FIRST = Number(process.env["RIPRAP_SHORTAGE_FIRST"] ?? 1);
const TRIES = Number(process.env["RIPRAP_SHORTAGE_TRIES"] ?? 1000);
const WALK_MS = 30 * VM_TEST_MS;

/** Fails only what the module asks for, in whichever task: the stack must pass through its text. */
const PREPARE = `
  mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug
  grep '\\[riprap\\]' /proc/kallsyms | grep -i ' t ' | cut -d' ' -f1 | sort >/tmp/text
  for kind in failslab fail_page_alloc; do
    cd /sys/kernel/debug/$kind
    echo 0 >probability; echo N >task-filter; echo 0 >space; echo N >ignore-gfp-wait; echo 1 >verbose
    echo 32 >stacktrace-depth; echo 0x$(head -n 1 /tmp/text) >require-start; echo 0x$(tail -n 1 /tmp/text) >require-end
  done
  cd /sys/kernel/debug/fail_page_alloc && echo N >ignore-gfp-highmem && echo 0 >min-order`;

describeDebugVm("the way of a connection when memory is short (skipped without the debug kernel)", () => {
  let vm: Vm;
  let daemon: VmProcess | undefined;
  const expectWalk = ({ stdout }: { stdout: string }) => {
    expect(stdout).toContain("shortage: walked to");
    expect(stdout).not.toMatch(/stuck|WRONG|UNKILLABLE|FAIL/);
    // What failed once is there for the next, or at the latest for the one after.
    expect(stdout.split("\n").filter((line) => /^\d+ \S+ (?!0$)\S+$/.test(line))).toEqual([]);
  };

  beforeAll(async () => {
    vm = await bootVm({ kernel: "6.12", product: "module" });
    await vm.check(`${LOAD_MODULE} && mkdir -p /srv && cp ${PROGRAM_DIR}/shortage ${PROGRAM} && ip link set lo up`);
    await vm.check(PREPARE);
  }, BOOT_TEST_MS);

  afterAll(() => vm?.stop(), BOOT_TEST_MS);

  for (const [kind, deed] of [
    ["slab", "renewal"],
    ["page", "renewal"],
    ["slab", "signature"],
    ["page", "signature"],
  ] as const)
    test(
      `each failing ${kind} allocation leaves the program served and the next ${deed} done when it is in a ${deed}`,
      async () => {
        const walk = await vm.run([`${PROGRAM_DIR}/shortage_daemon`, kind, deed], { timeout: WALK_MS });
        process.stdout.write(`${kind} ${deed}\n${walk.stdout}${walk.stderr}`);
        expectWalk(walk);
      },
      WALK_MS,
    );

  for (const [kind, client] of [
    ["slab", "fork"],
    ["page", "fork"],
    ["slab", "thread"],
    ["page", "thread"],
  ] as const)
    test(
      `each failing ${kind} allocation gives the program an errno when the client is a ${client === "fork" ? "new process" : "thread"}`,
      async () => {
        daemon ??= vm.spawn([`${PROGRAM_DIR}/fault`, "daemon"]);
        await daemon.waitOutput(/^ready$/m, VM_TEST_MS);
        const walk = await vm.run([PROGRAM, kind, client, `${FIRST}`, `${STEP}`, `${TRIES}`], {
          timeout: WALK_MS,
        });
        process.stdout.write(`${kind} ${client}\n${walk.stdout}${walk.stderr}`);
        expectWalk(walk);
        // It says FAIL when a flow is open in the clear.
        expect(daemon.stdout).toBe("ready\n");
      },
      WALK_MS,
    );
});
