// Tells a person what is being waited for, when it takes longer than a moment.

/** After that one wonders whether anything happens. */
const MOMENT_MS = 1000;

/** Calls `say` once, when `work` takes longer than a second. */
export async function patiently<T>(work: Promise<T>, say: () => void, momentMs = MOMENT_MS): Promise<T> {
  const patience = setTimeout(say, momentMs);
  try {
    return await work;
  } finally {
    clearTimeout(patience);
  }
}
