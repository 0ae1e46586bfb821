// Judges a kernel log: which of its lines say that something is wrong. Pure; never asks a VM.
//
// A VM under software emulation on a busy machine can stand still for seconds. That is no fault of what runs in it, so the VM boots
// with watchdog_thresh=60 and an RCU stall timeout of 300 s: what still reports a stall then has hung, and is a fault like any other.

const FAULTS: readonly (readonly [pattern: RegExp, meaning: string])[] = [
  [/\bWARNING: /, "warning"],
  [/\bBUG: |\bBUG [\w-]+ \(|kernel BUG at/, "bug"],
  [/\bOops: |general protection fault|Unable to handle kernel|NULL pointer dereference/, "oops"],
  [/Kernel panic/, "panic"],
  [
    /possible circular locking|inconsistent lock state|suspicious RCU usage|INFO: possible recursive locking/,
    "lockdep",
  ],
  [/kmemleak: .*new suspected memory leaks|unreferenced object 0x/, "leak"],
  [/kmemleak: .*(disabled|out of memory)|turning off the locking correctness validator/i, "a detector gave up"],
  [/Objects remaining in|Slab cache still has objects|kmem_cache_destroy .*still has objects/, "leak"],
  [
    /Redzone overwritten|Poison overwritten|Object already free|Object padding overwritten|KFENCE: /,
    "memory corruption",
  ],
  [/refcount_t: /, "refcount"],
  [/blocked for more than \d+ seconds/, "hung task"],
  [/scheduling while atomic|sleeping function called from invalid context/, "sleep in atomic context"],
  [/rcu.*(detected|self-detected).*stall|rcu.*kthread starved|soft lockup|hard LOCKUP/, "stall"],
  [/UBSAN: |KASAN: |KCSAN: |KMSAN: /, "sanitizer"],
  [/list_(add|del) corruption|stack-protector: |unregister_netdevice: waiting for/, "corruption"],
  [/\briprap: bug\b/, "riprap's own check"],
];

// Lines of Debian's kernels under QEMU that match a fault and are none, each with its reason.
const HARMLESS: readonly RegExp[] = [];

export interface KernelFault {
  line: string;
  meaning: string;
}

export function findKernelFaults(log: string): KernelFault[] {
  const faults: KernelFault[] = [];
  for (const line of withoutForeignRaces(log).split("\n")) {
    const fault = FAULTS.find(([pattern]) => pattern.test(line));
    if (fault && !HARMLESS.some((pattern) => pattern.test(line))) faults.push({ line, meaning: fault[1] });
  }
  return faults;
}

/** The kernel knows of races of its own that it takes for harmless: only a report that riprap's code stands in is ours to judge. */
function withoutForeignRaces(log: string): string {
  return log.replace(/[^\n]*={20,}\n[^\n]*BUG: KCSAN:[\s\S]*?={20,}/g, (report) =>
    /\briprap\b/.test(report) ? report : "",
  );
}
