// Turns an endless source of views into NDJSON, a line each, for as long as the client reads. Holds no more than one line.

/** The stream ends with the source, and the source's signal fires when the client is gone. */
export function toNdjson<T>(
  open: (signal: AbortSignal) => AsyncIterable<T>,
  gone: AbortSignal,
): ReadableStream<Uint8Array> {
  const ended = new AbortController();
  const signal = AbortSignal.any([gone, ended.signal]);
  const encoder = new TextEncoder();
  let views: AsyncIterator<T> | undefined;
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        views = open(signal)[Symbol.asyncIterator]();
        // A first blank line sends the head at once, so that a client knows that it follows before anything happens.
        controller.enqueue(encoder.encode("\n"));
      },
      async pull(controller) {
        const next = await views?.next();
        if (next === undefined || next.done === true || signal.aborted) {
          ended.abort();
          controller.close();
          return;
        }
        controller.enqueue(encoder.encode(`${JSON.stringify(next.value)}\n`));
      },
      async cancel() {
        ended.abort();
        await views?.return?.();
      },
    },
    { highWaterMark: 1 },
  );
}
