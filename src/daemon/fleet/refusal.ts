// Tells a person what the broker does not let this node hear, and when it does again.

import { describeError } from "../../error.ts";
import type { Transport } from "../../federation/transport.ts";
import type { Log } from "../log.ts";
import type { FleetJournal } from "./event.ts";

/** A sentence for status. */
export function refusedWarning(subject: string): string {
  const remedy = "print it anew with riprap fleet nats-config, and reload the server";
  return `The broker does not let this node listen to ${subject}. Its configuration is not of this roster: ${remedy}. It is tried again every minute.`;
}

/** From now on. */
export function noteRefusals(
  transport: Pick<Transport, "onRefusal">,
  { journal, log }: { readonly journal: Pick<FleetJournal, "record">; readonly log: Log },
): void {
  transport.onRefusal(({ subject, isRefused }) => {
    if (isRefused)
      log.warn("the broker does not let this node listen", { subject, remedy: "riprap fleet nats-config" });
    else log.info("the broker lets this node listen", { subject });
    try {
      journal.record(isRefused ? "broker refuses" : "broker takes", subject, isRefused ? refusedWarning(subject) : "");
    } catch (thrown) {
      log.error("the fleet's journal cannot be written", { error: describeError(thrown) });
    }
  });
}
