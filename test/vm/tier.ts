// Keeps tests that boot VMs out of a plain `bun test`: `./run test` has a tier for them, and `RIPRAP_VM=1 bun test test/vm` runs them by hand.
import { describe } from "bun:test";
import { CHOSEN_KERNEL, PATIENCE } from "./lab/kernel.ts";

/** Milliseconds for a test that boots, on a machine that also does other things. */
export const BOOT_TEST_MS = 240_000 * PATIENCE;
export const VM_TEST_MS = 120_000 * PATIENCE;

/** `describe` for what needs a VM; skipped, and said so by the reporter, outside the VM tier. */
export const describeVm = process.env["RIPRAP_VM"] === "1" ? describe : describe.skip;

/** For what needs the debug kernel, which can make allocations fail; its title says so. */
export const describeDebugVm = CHOSEN_KERNEL === "debug" ? describeVm : describe.skip;

/** For what a kernel that looks for its own faults would falsify; its title says so. */
export const describeDebianVm = CHOSEN_KERNEL ? describe.skip : describeVm;
