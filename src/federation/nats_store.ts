// A bucket of JetStream as a store by key. Believes nothing that is in it.
import { type KeyedStore, MESSAGE_BYTES_MAX } from "./transport.ts";

/**
 * What a bucket may hold, in octets: a state at its bounds (bound.ts) with what a stream keeps beside each value. A server with less room for it than the
 * first gets one of the next; without a bound one member could fill the server's disk.
 */
const BUCKET_BYTES = [1024, 256, 64, 16].map((mebibytes) => mebibytes * 1024 * 1024);
/** Of the server alone and of a cluster: there is less storage than that, by its JSON API. */
const LACKS_STORAGE: ReadonlySet<number | undefined> = new Set([10_047, 10_005]);

/** As the client has it. */
interface Bucket {
  put(key: string, value: Uint8Array): Promise<unknown>;
  watch(): Promise<AsyncIterable<{ readonly value: Uint8Array; readonly delta?: number }> & { stop(): void }>;
  status(): Promise<{ readonly values: number }>;
}

interface BucketOptions {
  readonly history: number;
  readonly maxValueSize: number;
  readonly max_bytes: number;
}

/** The bucket that is there, or another. Throws what `open` throws when it may not be, or cannot. */
export async function openKeyedStore(open: (options: BucketOptions) => Promise<Bucket>): Promise<KeyedStore> {
  for (const [i, bytes] of BUCKET_BYTES.entries()) {
    try {
      return keyedStore(await open({ history: 1, maxValueSize: MESSAGE_BYTES_MAX, max_bytes: bytes }));
    } catch (thrown) {
      const code = (thrown as { readonly api_error?: { readonly err_code: number } }).api_error?.err_code;
      if (i === BUCKET_BYTES.length - 1 || !LACKS_STORAGE.has(code)) throw thrown;
    }
  }
  throw new TypeError("a bucket has a size");
}

function keyedStore(kv: Bucket): KeyedStore {
  return {
    async put(key, value) {
      if (value.length > MESSAGE_BYTES_MAX) return false;
      return kv.put(key, value).then(
        () => true,
        () => false,
      );
    },
    async *list(signal) {
      const watch = await kv.watch();
      const stop = () => watch.stop();
      signal.addEventListener("abort", stop, { once: true });
      try {
        // An empty bucket announces no entry, and so would wait for its first.
        if ((await kv.status()).values === 0) return;
        for await (const entry of watch) {
          // Of a key that was deleted or purged nothing is left; what is said of a value beside it is the broker's word.
          if (entry.value.length > 0) yield entry.value;
          if (entry.delta === 0) return;
        }
      } finally {
        signal.removeEventListener("abort", stop);
        watch.stop();
      }
    },
  };
}
