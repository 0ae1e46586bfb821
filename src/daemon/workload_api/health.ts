// gRPC's own question whether a server serves (grpc.health.v1): a service beside the Workload API, which may not be extended.

import { integer, readFields, readText } from "./protobuf.ts";
import { CallRefusal } from "./refusal.ts";
import type { Service } from "./server.ts";
import { countCall, type ServiceParts } from "./service.ts";

const SERVING = 1;
const NOT_SERVING = 2;
/** The server as a whole, and its one service. */
const KNOWN = new Set(["", "SpiffeWorkloadAPI"]);

/** Serves when rules are in force. It asks for no identity and no security header: it tells nothing that a refused call does not. */
export function createHealth(
  parts: Pick<ServiceParts, "clock" | "counters" | "limits">,
  isServing: () => boolean,
): Service {
  return {
    prefix: "/grpc.health.v1.Health/",
    methods: {
      Check: {
        kind: "unary",
        async answer(call) {
          const release = countCall(call, parts);
          try {
            if (!KNOWN.has(serviceOf(call.request))) throw new CallRefusal("notFound", "there is no such service here");
            return integer(1, isServing() ? SERVING : NOT_SERVING);
          } finally {
            release();
          }
        },
      },
    },
  };
}

function serviceOf(request: Uint8Array): string {
  try {
    const names = readFields(request).filter(({ number }) => number === 1);
    return readText(names.at(-1)?.bytes ?? new Uint8Array());
  } catch (cause) {
    throw new CallRefusal("invalidArgument", "the request is malformed", { cause });
  }
}
