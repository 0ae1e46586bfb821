// The module alone, without a daemon: it loads, costs nothing that a program could see, and goes.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { KERNEL_LINES } from "./lab/kernel.ts";
import { LOAD_MODULE } from "./lab/product.ts";
import { bootVm, type Vm } from "./lab.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const OTHER_NAMESPACES = "unshare --mount --pid --net --ipc --uts --cgroup --fork --mount-proc";
/** What a container's root has by default where Docker or containerd starts it. */
const CONTAINER =
  "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,audit_write,setfcap";
const bounded = (capabilities: string) =>
  `setpriv --bounding-set -all,${capabilities
    .split(",")
    .map((name) => `+${name}`)
    .join(",")}`;

/** Root of the first user namespace, wherever else it is: what a shell prints that opens the node, or one of its own making. */
const ROOTS: Record<string, { start: string; said: string }> = {
  "in every other namespace, with all capabilities": { start: OTHER_NAMESPACES, said: "open" },
  "in every other namespace, with a container's capabilities": {
    start: `${OTHER_NAMESPACES} ${bounded(CONTAINER)}`,
    said: "Operation not permitted",
  },
  "with every capability but CAP_MAC_ADMIN": {
    start: "setpriv --bounding-set -mac_admin",
    said: "Operation not permitted",
  },
  "with CAP_SYS_ADMIN": { start: bounded("sys_admin,dac_override,mknod"), said: "Operation not permitted" },
  "with CAP_MAC_ADMIN": { start: bounded("mac_admin,dac_override,mknod"), said: "open" },
};

for (const kernel of KERNEL_LINES) {
  describeVm(`riprap.ko on kernel ${kernel}`, () => {
    let vm: Vm;

    beforeAll(async () => {
      vm = await bootVm({ kernel, product: "module", files: { "/srv/page": "a page\n" } });
    }, BOOT_TEST_MS);

    afterAll(() => vm?.stop(), VM_TEST_MS);

    test(
      "loading makes the device and rmmod takes it away when no socket holds the module",
      async () => {
        for (let round = 0; round < 3; round++) {
          await vm.check(LOAD_MODULE);
          expect(await vm.check("stat -c '%F %a %u' /dev/riprap")).toBe("character special file 600 0\n");
          await vm.check("rmmod riprap");
          expect((await vm.run("test -e /dev/riprap")).code).toBe(1);
        }
      },
      VM_TEST_MS,
    );

    test(
      "a connection on loopback works as before when the module is loaded and no daemon runs",
      async () => {
        await vm.check(LOAD_MODULE);
        const web = vm.spawn(["python3", "-m", "http.server", "8000", "--directory", "/srv"]);
        await vm.waitFor("ss -Hltn sport = :8000 | grep -q .");
        expect(await vm.check(["curl", "-sS", "--max-time", "20", "http://127.0.0.1:8000/page"])).toBe("a page\n");
        web.kill();
        await web.exited;
        await vm.check("rmmod riprap");
      },
      VM_TEST_MS,
    );

    test(
      "a second opener of the device is refused with EBUSY when one holds it",
      async () => {
        await vm.check(LOAD_MODULE);
        const script = "import os,sys\nos.open('/dev/riprap', os.O_RDWR)\nos.open('/dev/riprap', os.O_RDWR)";
        expect((await vm.run(["python3", "-c", script])).stderr).toContain("Errno 16");
        await vm.check("rmmod riprap");
      },
      VM_TEST_MS,
    );

    test(
      "a process that is not root cannot open the device when it tries",
      async () => {
        await vm.check(LOAD_MODULE);
        expect((await vm.run("exec 3<>/dev/riprap", { uid: 1000 })).stderr).toContain("Permission denied");
        await vm.check("rmmod riprap");
      },
      VM_TEST_MS,
    );

    test(
      "root opens the device by CAP_MAC_ADMIN and by nothing else when it is in other namespaces, or has made the node itself",
      async () => {
        await vm.check(LOAD_MODULE);
        const script = `mknod /tmp/own-$$ c $(stat -c '0x%t 0x%T' /dev/riprap)
          for node in /dev/riprap /tmp/own-$$; do bash -c "exec 3<>$node && echo open" 2>&1 | sed 's/.*: //'; done`;
        await vm.put("/root/open", script);
        for (const { start, said } of Object.values(ROOTS))
          expect(await vm.check(`${start} bash /root/open`)).toBe(`${said}\n${said}\n`);
        await vm.check("rmmod riprap");
      },
      VM_TEST_MS,
    );
  });
}
