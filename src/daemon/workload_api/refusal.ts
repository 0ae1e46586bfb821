// Why a call of the Workload API is not answered: a gRPC status with a sentence for whoever reads the client's log.

import { RiprapError } from "../../error.ts";

/** Status codes of gRPC, as far as the Workload Endpoint's standard (section 6) uses them. */
export const STATUS = {
  invalidArgument: 3,
  notFound: 5,
  permissionDenied: 7,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
} as const;

export type StatusName = keyof typeof STATUS;

/** The client is told the message: it says nothing of other workloads. */
export class CallRefusal extends RiprapError {
  readonly status: StatusName;

  constructor(status: StatusName, message: string, options?: ErrorOptions) {
    super(`workload_api_${status}`, message, options);
    this.status = status;
  }
}
