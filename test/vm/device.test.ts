// The module through /dev/riprap, with program/device.c as the daemon: what it says of processes, and what it holds them to.
import { expect, test } from "bun:test";
import { KERNEL_LINES } from "./lab/kernel.ts";
import { LOAD_MODULE, PROGRAM_DIR } from "./lab/product.ts";
import { bootVm } from "./lab.ts";
import { BOOT_TEST_MS, describeVm } from "./tier.ts";

for (const kernel of KERNEL_LINES) {
  describeVm(`/dev/riprap on kernel ${kernel}`, () => {
    test(
      "every frame does what abi.h says when real processes connect",
      async () => {
        const vm = await bootVm({ kernel, product: "module" });
        await vm.check(LOAD_MODULE);
        const device = await vm.run([`${PROGRAM_DIR}/device`], { timeout: 120_000 });
        expect(device.stdout).toMatch(/^device: \d+ passed, 0 failed\n$/);
        expect(device.code).toBe(0);
        // A failed unload, and a count that does not come back to zero, are lines that stop() throws for.
        await vm.check("for i in 1 2 3 4 5; do rmmod riprap && exit 0; sleep 1; done; exit 1");
        await vm.stop();
      },
      BOOT_TEST_MS,
    );
  });
}
