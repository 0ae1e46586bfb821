// ./run debug-kernel: makes one of the kernels that look for their own faults, or says where it is.
import { describeError, RiprapError } from "../../../../src/error.ts";
import { DEBUG_KERNEL_LINES } from "../debug_kernel.ts";
import { prepareKernel } from "../kernel.ts";

async function main(name = "debug"): Promise<void> {
  const line = DEBUG_KERNEL_LINES.find((known) => known === name);
  if (!line)
    throw new RiprapError("kernel_unknown", `Cannot build ${name}: the kernels are ${DEBUG_KERNEL_LINES.join(", ")}`);
  process.stdout.write(`${(await prepareKernel(line)).vmlinuz}\n`);
}

await main(process.argv[2]).catch((error: unknown) => {
  process.stderr.write(`run: ${describeError(error)}\n`);
  process.exitCode = 1;
});
