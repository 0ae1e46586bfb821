// Keeps two runs from the same work at once: a lock that is let go however its holder ends.
import { RiprapError } from "../../../src/error.ts";

// The shell holds the lock until its input ends, which it does with this process at the latest.
const HOLD = "echo held; read -r line || exit 0";

/** Runs `work` while no other process runs any under the same file, which is made if it is not there. Waits without limit. */
export async function withLock<T>(file: string, work: () => Promise<T>): Promise<T> {
  const holder = Bun.spawn(["flock", file, "sh", "-c", HOLD], { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
  try {
    const { value } = await holder.stdout.getReader().read();
    if (!value) {
      const said = await new Response(holder.stderr).text();
      throw new RiprapError("lock_failed", `Cannot lock ${file}: ${said.trim()}; is its directory there and writable?`);
    }
    return await work();
  } finally {
    holder.stdin.end();
    await holder.exited;
  }
}
