// gRPC's own question whether a server serves (grpc.health.v1): a service beside the Workload API, which may not be extended.

import { integer, lastOf, readFields, readText } from "./protobuf.ts";
import { CallRefusal } from "./refusal.ts";
import type { Call, Service, StreamCall } from "./server.ts";
import { countCall, type ServiceParts } from "./service.ts";

/** HealthCheckResponse.ServingStatus */
const SERVING = 1;
const NOT_SERVING = 2;
const SERVICE_UNKNOWN = 3;

export interface Health {
  readonly service: Service;
  /** Whether it serves may have changed: those who watch are told. */
  refresh(): void;
}

/**
 * Serves when rules are in force. It asks for no identity and no security header: it tells nothing that a refused call does not.
 * `services` are those that it knows by name.
 */
export function createHealth(
  parts: Pick<ServiceParts, "clock" | "counters" | "limits">,
  { services, isServing }: { readonly services: readonly string[]; isServing(): boolean },
): Health {
  const known = new Set(["", ...services]);
  const watches = new Set<() => void>();
  const status = () => (isServing() ? SERVING : NOT_SERVING);
  return {
    service: {
      prefix: "/grpc.health.v1.Health/",
      methods: {
        Check: {
          kind: "unary",
          async answer(call) {
            const release = countCall(call, parts);
            try {
              if (!known.has(serviceOf(call))) throw new CallRefusal("notFound", "there is no such service here");
              return integer(1, status());
            } finally {
              release();
            }
          },
        },
        Watch: {
          kind: "stream",
          async open(call) {
            const release = countCall(call, parts);
            try {
              const name = serviceOf(call);
              watch(call, { watches, release, now: () => (known.has(name) ? status() : SERVICE_UNKNOWN) });
            } catch (thrown) {
              release();
              throw thrown;
            }
          },
        },
      },
    },
    refresh() {
      for (const tell of watches) tell();
    },
  };
}

function watch(
  call: StreamCall,
  about: { readonly watches: Set<() => void>; readonly release: () => void; readonly now: () => number },
): void {
  const { watches, release, now } = about;
  let told: number | undefined;
  const tell = () => {
    const status = now();
    if (status === told) return;
    told = status;
    call.send(integer(1, status));
  };
  if (call.signal.aborted) {
    release();
    return;
  }
  call.signal.addEventListener("abort", () => {
    watches.delete(tell);
    release();
  });
  watches.add(tell);
  tell();
}

function serviceOf({ request }: Call): string {
  try {
    return readText(lastOf(readFields(request), 1) ?? new Uint8Array());
  } catch (cause) {
    throw new CallRefusal("invalidArgument", "the request is malformed", { cause });
  }
}
