// The module through /dev/riprap, with program/device.c as the daemon: what it says of processes, and what it holds them to.
import { expect, test } from "bun:test";
import { p256 } from "@noble/curves/nist.js";
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
        const authority = await vm.run([`${PROGRAM_DIR}/authority_key`], { timeout: 120_000 });
        expect(authority.stdout).toMatch(/^signed .*\nauthority_key: \d+ passed, 0 failed\n$/);
        expect(isSigned(authority.stdout)).toBe(true);
        // A failed unload, and a count that does not come back to zero, are lines that stop() throws for.
        await vm.check("for i in 1 2 3 4 5; do rmmod riprap && exit 0; sleep 1; done; exit 1");
        await vm.stop();
      },
      BOOT_TEST_MS,
    );
  });
}

/** "signed POINT DIGEST SIGNATURE", in hexadecimal. */
function isSigned(said: string): boolean {
  const [point, digest, signature] = (/^signed (.*)$/m.exec(said)?.[1] ?? "")
    .split(" ")
    .map((text) => Buffer.from(text, "hex"));
  if (point === undefined || digest === undefined || signature === undefined) return false;
  return p256.verify(signature, digest, point, { prehash: false, lowS: false, format: "der" });
}
