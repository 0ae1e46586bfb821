// Shares work between lanes: each takes the next piece when it is done with its last. Knows nothing of what the pieces are.
import { availableParallelism, totalmem } from "node:os";

/** Two nodes of 1.5 GiB each, as the greediest file boots, and what QEMU needs for itself. */
const LANE_MEMORY_BYTES = 4 * 2 ** 30;
/** More would have to be tried: the tests' limits of time were found with two VMs side by side. */
const LANES_MAX = 2;

/** How many VM tests may run beside one another on this machine. */
export function countLanes(processors = availableParallelism(), memoryBytes = totalmem()): number {
  return Math.max(1, Math.min(LANES_MAX, processors, Math.floor(memoryBytes / LANE_MEMORY_BYTES)));
}

/** The files whose names are in `longest`, in its order, and then the others in theirs: a long one at the end would keep one lane waiting. */
export function orderFiles(files: readonly string[], longest: readonly string[]): string[] {
  const rank = (file: string): number => {
    const found = longest.indexOf(file);
    return found < 0 ? longest.length : found;
  };
  return [...files].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/**
 * Runs `work` once for each piece, in their order, in so many lanes (numbered from 1). One result a piece, in the order of the
 * pieces; undefined for those that no lane had taken when `signal` was aborted. What `work` throws ends every lane.
 */
export async function runLanes<Piece, Result>(
  pieces: readonly Piece[],
  options: { lanes: number; signal: AbortSignal },
  work: (piece: Piece, lane: number) => Promise<Result>,
): Promise<(Result | undefined)[]> {
  const results: (Result | undefined)[] = pieces.map(() => undefined);
  const queue = pieces.entries();
  let failed = false;
  const walk = async (lane: number): Promise<void> => {
    for (const [index, piece] of queue) {
      if (failed || options.signal.aborted) return;
      results[index] = await work(piece, lane).catch((error: unknown) => {
        failed = true;
        throw error;
      });
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.lanes, pieces.length) }, (_, index) => walk(index + 1)));
  return results;
}
