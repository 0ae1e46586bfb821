// Tells a person what the broker does not let this node hear or say, and when it does again.

import { describeError } from "../../error.ts";
import type { Refusal, Transport } from "../../federation/transport.ts";
import type { Log } from "../log.ts";
import type { FleetJournal } from "./event.ts";

const VERBS = {
  listen: { words: "listen to", again: "It is tried again every minute" },
  publish: { words: "publish to", again: "What it says there is lost until then" },
} as const;

/** A sentence for status. */
export function refusedWarning({ verb, subject }: Pick<Refusal, "verb" | "subject">): string {
  const { words, again } = VERBS[verb];
  const remedy = "print it anew with riprap fleet nats-config, and reload the server";
  return `The broker does not let this node ${words} ${subject}. Its configuration is not of this roster: ${remedy}. ${again}.`;
}

/** From now on. */
export function noteRefusals(
  transport: Pick<Transport, "onRefusal">,
  { journal, log }: { readonly journal: Pick<FleetJournal, "record">; readonly log: Log },
): void {
  transport.onRefusal(({ verb, subject, isRefused }) => {
    if (isRefused)
      log.warn(`the broker does not let this node ${verb}`, { subject, remedy: "riprap fleet nats-config" });
    else log.info(`the broker lets this node ${verb}`, { subject });
    try {
      const words = isRefused ? refusedWarning({ verb, subject }) : "";
      journal.record(isRefused ? "broker refuses" : "broker takes", subject, words);
    } catch (thrown) {
      log.error("the fleet's journal cannot be written", { error: describeError(thrown) });
    }
  });
}
