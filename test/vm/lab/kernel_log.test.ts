import { expect, test } from "bun:test";
import { findKernelFaults } from "./kernel_log.ts";

test("findKernelFaults() names each fault when the log has some", () => {
  const log = [
    "[ 1.0] Linux version 6.12",
    "[ 2.0] WARNING: CPU: 0 PID: 9 at net/core/sock.c:1 sk_stop+0x1/0x2",
    "[ 3.0] BUG kmalloc-64 (Tainted: G OE): Poison overwritten",
    "[ 4.0] refcount_t: underflow; use-after-free.",
    "[ 5.0] INFO: task curl:77 blocked for more than 120 seconds.",
    "[ 6.0] BUG: scheduling while atomic: curl/77/0x00000002",
    "[ 7.0] riprap: bug: a flow without a socket",
    "[ 8.0] BUG riprap_flow (Not tainted): Objects remaining in riprap_flow on __kmem_cache_shutdown()",
  ].join("\n");
  expect(findKernelFaults(log).map((fault) => fault.meaning)).toEqual([
    "warning",
    "bug",
    "refcount",
    "hung task",
    "bug",
    "riprap's own check",
    "bug",
  ]);
});

test("findKernelFaults() finds nothing when the log is that of a quiet boot", () => {
  const log =
    "[ 0.1] riprap: loading out-of-tree module taints kernel.\n[ 0.2] Debug: sleeping is fine\n[ 0.3] debugfs: ok";
  expect(findKernelFaults(log)).toEqual([]);
});

test("findKernelFaults() leaves out a race of the kernel's own when riprap has no part in it", () => {
  const report = (frame: string) =>
    [
      "[ 1.0] ==================================================================",
      `[ 1.0] BUG: KCSAN: data-race in ${frame} / tcp_poll`,
      `[ 1.0]  ${frame}+0x1/0x2`,
      "[ 1.0] ==================================================================",
    ].join("\n");
  expect(findKernelFaults(report("tcp_recvmsg"))).toEqual([]);
  expect(findKernelFaults(`${report("tcp_recvmsg")}\n${report("on_event [riprap]")}`)).toHaveLength(1);
});
