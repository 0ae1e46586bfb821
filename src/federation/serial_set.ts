// A set of revoked serial numbers as a statement of the fleet: what its name, its end and its octets have to do with one another. Judges no right.
import { hash } from "node:crypto";
import { RiprapError } from "../error.ts";
import { tryParseSerialSetName, writeSerialSetName } from "../fleet.ts";
import { SerialSet } from "../serial_set.ts";
import type { Statement, StatementDraft } from "./statement.ts";

/** What a node says when it says a set. */
export function draftSerialSet(
  set: SerialSet,
  about: { readonly authority: string; readonly time: number },
): Omit<StatementDraft, "trustDomain" | "revision"> {
  const body = set.write();
  const name = writeSerialSetName({ authority: about.authority, value: digestOf(body) });
  return { kind: "revocation", name, time: about.time, expiresAt: set.end, body };
}

/**
 * The set that a statement says. Throws RiprapError `serial_set_malformed`, also when its name is of other octets, or when it ends sooner or later than its
 * octets say: whoever repeats it under its name can say nothing else, and it stands until the last certificate has ended.
 */
export function readSerialSet({
  name,
  body,
  expiresAt,
  revision,
}: Pick<Statement, "name" | "body" | "expiresAt" | "revision">): SerialSet {
  if (tryParseSerialSetName(name)?.value !== digestOf(body)) throw unfit("its name is of other octets");
  const set = SerialSet.parse(body);
  if (set.end === 0 || set.end !== expiresAt) throw unfit("it has to end with the last of its certificates");
  if (revision !== 1) throw unfit("it is said once");
  return set;
}

function digestOf(body: Uint8Array): string {
  return hash("sha256", body, "hex").slice(0, 32);
}

function unfit(fact: string): RiprapError {
  return new RiprapError("serial_set_malformed", `Cannot take the set of serial numbers: ${fact}`);
}
