// What the kernel of a node holds at a moment, and whether it came back to what it held before. Never makes load.
import { RiprapError } from "../../../src/error.ts";
import type { RiprapNode } from "../node.ts";

export interface Holding {
  /** Live objects of the caches that connections and processes take from, by name. */
  readonly objects: ReadonlyMap<string, number>;
  /** TCP sockets that somebody has. */
  readonly sockets: number;
  /** Of the module: one for each managed socket, one for the daemon. */
  readonly references: number;
  /** By the module's own count. */
  readonly moduleBytes: number;
  /** Slab memory that cannot be given back, page tables, kernel stacks, percpu and vmalloc memory. */
  readonly kernelKib: number;
  /** Threads, the kernel's too: its work queues make more when there is much to do at once, which rest for minutes before they end. */
  readonly threads: number;
}

// Sockets in TIME_WAIT and their ports stay a minute; pages and names of files stay until somebody needs the memory.
const CACHES =
  /^(kmalloc-|TCP|sock_inode_cache|skbuff|request_sock|task_struct|signal_cache|sighand|cred_jar|pid|filp|eventpoll)/;
const MEMINFO = ["SUnreclaim", "KernelStack", "PageTables", "Percpu", "VmallocUsed"];
/** What hangs on sockets in TIME_WAIT goes with them, what RCU frees in a moment. Twice that, and what was there for one count alone is gone too. */
const SETTLE_MS = 150_000;
/** IDLE_WORKER_TIMEOUT of the kernel's work queues is five minutes; they end one after another. */
const THREADS_REST_MS = 480_000;

/** No SVID has it. To revoke it voids what is kept for speed alone: tickets, and what was answered about peers. */
const NOBODYS_SERIAL = "0123456789abcdef";

/** Without it a cache counts objects that are free but lie ready for one processor, or wait in the debug kernel's quarantine. */
const SHRINK = "for cache in /sys/kernel/slab/[!:]*; do echo 1 >$cache/shrink; done 2>/dev/null";
// A look into each process's files in /proc would leave objects behind.
const PARTS = ["/proc/slabinfo", "/proc/meminfo", "/proc/net/sockstat*", "/sys/module/riprap/refcnt", "/proc/loadavg"];
const PARTING = "----\n";

export async function readHolding(node: RiprapNode): Promise<Holding> {
  await node.riprap("revoke", NOBODYS_SERIAL);
  // The command is gone before anything is counted.
  const status = await node.ask("status");
  const read = PARTS.map((part) => `cat ${part}; printf -- '${PARTING.trim()}\\n'`);
  const [slabinfo = "", meminfo = "", sockets = "", references, load = ""] = (
    await node.vm.check([SHRINK, ...read].join("\n"))
  ).split(PARTING);
  return {
    objects: countObjects(slabinfo),
    sockets: [...sockets.matchAll(/^TCP6?: inuse (\d+)/gm)].reduce((sum, [, count]) => sum + Number(count), 0),
    references: Number(references),
    moduleBytes: status.module?.memoryBytes ?? 0,
    kernelKib: MEMINFO.reduce((sum, name) => sum + numberOf(meminfo, name), 0),
    threads: Number(/\/(\d+)/.exec(load)?.[1]),
  };
}

/** `kmalloc-rnd-07-64` and its fifteen sisters are one cache for this purpose. */
function countObjects(slabinfo: string): Map<string, number> {
  const objects = new Map<string, number>();
  for (const [, name = "", active] of slabinfo.matchAll(/^(\S+) +(\d+)/gm)) {
    if (!CACHES.test(name)) continue;
    const merged = name.replace(/^kmalloc-rnd-\d+-/, "kmalloc-");
    objects.set(merged, (objects.get(merged) ?? 0) + Number(active));
  }
  return objects;
}

function numberOf(meminfo: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(meminfo)?.[1] ?? 0);
}

export interface Allowance {
  /** Of any cache that is not named in `of`. */
  readonly objects: number;
  /** Of these caches. */
  readonly of: Readonly<Record<string, number>>;
  readonly moduleBytes: number;
  readonly kernelKib: number;
}

/** Waits until nothing is more than it was, but for the allowance; throws with what stayed. */
export async function expectReturn(node: RiprapNode, before: Holding, allowance: Allowance): Promise<Holding> {
  const began = performance.now();
  let end = began + SETTLE_MS;
  for (;;) {
    const after = await readHolding(node);
    const excess = findExcess(before, after, allowance);
    if (excess.length === 0) return after;
    const now = performance.now();
    if (after.threads > before.threads && now < began + THREADS_REST_MS) end = now + SETTLE_MS;
    if (now > end) {
      const threads = `with ${after.threads} threads, ${before.threads} before`;
      throw new RiprapError(
        "holding_grown",
        `${node.vm.name} holds more than before: ${excess.join(", ")} (${threads})`,
      );
    }
    await Bun.sleep(1000);
  }
}

export function findExcess(before: Holding, after: Holding, allowance: Allowance): string[] {
  const rows: [what: string, before: number, after: number, more: number][] = [
    ["sockets", before.sockets, after.sockets, 0],
    ["module references", before.references, after.references, 0],
    ["module bytes", before.moduleBytes, after.moduleBytes, allowance.moduleBytes],
    ["kernel KiB", before.kernelKib, after.kernelKib, allowance.kernelKib],
  ];
  for (const [name, count] of after.objects)
    rows.push([name, before.objects.get(name) ?? 0, count, allowance.of[name] ?? allowance.objects]);
  return rows.filter(([, was, is, more]) => is > was + more).map(([what, was, is]) => `${what} ${was} → ${is}`);
}
