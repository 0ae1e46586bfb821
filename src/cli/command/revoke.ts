// revoke: a serial number, a SPIFFE ID or an authority. And audit: what was signed, and why.

import type { SignedSvid } from "../../ca.ts";
import type { AuthorityEventView } from "../../daemon/control/authority.ts";
import type { RevocationView, RevokedIdView } from "../../daemon/control/port.ts";
import { KEEPS } from "../../fleet.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, SOCKET_OPTION } from "../command.ts";
import { layOut } from "../grid.ts";
import { show } from "../output.ts";
import { clientOf } from "../setting.ts";
import { usageError } from "../usage.ts";

const DAEMON_OPTIONS = [JSON_OPTION, SOCKET_OPTION, CONFIG_OPTION];
const LIMIT = { fallback: 20, min: 1, max: 10_000 };

const revoke: Command = {
  words: ["revoke"],
  group: "Authorities",
  sentence: "Revoke a serial number, a SPIFFE ID or an authority, at once.",
  notes: [
    "TARGET is a serial number in hexadecimal, a SPIFFE ID, or authority:ID; node:NAME and the like are said to the fleet. Peers that show it are refused and cut off, the CRL lists it, what this node gave out is made anew.",
    "For a SPIFFE ID that is revoked no SVID is issued and no peer with it is taken. In a fleet that is for ever; with --local it is this node's affair, until --lift. Without TARGET, the IDs that this node has revoked are listed.",
  ],
  arguments: [{ name: "TARGET", optional: true, sentence: "What is revoked." }],
  options: [
    { name: "reason", value: "TEXT", sentence: "Why, for the journal." },
    {
      name: "keep",
      value: "WHAT",
      choices: KEEPS,
      sentence:
        "What stands of what operator:NAME or issuer:NAME has said: all until now (when not given), what it revoked, or nothing.",
    },
    { name: "local", sentence: "On this node alone: the fleet, which never forgets, is not told." },
    { name: "lift", sentence: "Let a SPIFFE ID be used again that was revoked with --local." },
    { name: "force", sentence: "Revoke an authority although it signs." },
    ...DAEMON_OPTIONS,
  ],
  example: "riprap revoke spiffe://edge.example/printer --reason 'stolen'",
  async run(invocation, terminal) {
    const client = clientOf(invocation);
    const target = invocation.optionalArgument("TARGET");
    if (target === undefined) {
      if (invocation.has("lift")) throw usageError("Cannot lift nothing: give a SPIFFE ID", "riprap revoke");
      show(await client.get<readonly RevokedIdView[]>("/v1/revocations"), { invocation, terminal }, (list) =>
        layOut(
          [{ title: "SPIFFE ID" }, { title: "SINCE" }, { title: "REASON" }],
          list.map(({ spiffeId, revokedAt, reason }) => [spiffeId, short(revokedAt), reason]),
        ),
      );
      return 0;
    }
    const query = {
      target,
      reason: invocation.option("reason"),
      local: invocation.has("local") ? "1" : undefined,
      lift: invocation.has("lift") ? "1" : undefined,
      force: invocation.has("force") ? "1" : undefined,
      keep: invocation.option("keep"),
    };
    const done = await client.post<RevocationView>("/v1/revoke", { query, waitMs: 30_000 });
    show(done, { invocation, terminal }, ({ target: what, outcome, notes }) => [
      `${what}: ${outcome.replace("_", " ")}`,
      ...notes,
    ]);
    return 0;
  },
};

/** As JSON carries it. */
type SignedView = Omit<SignedSvid, "signedAt" | "notAfter" | "revoked"> & {
  readonly signedAt: string;
  readonly notAfter: string;
  readonly revoked?: { readonly reason: string; readonly at: string };
};

const audit: Command = {
  words: ["audit"],
  group: "See",
  sentence: "Tell what was signed, for whom, by which rule and labels.",
  arguments: [],
  options: [
    { name: "spiffe-id", value: "ID", sentence: "Only what was signed for this ID." },
    { name: "type", value: "TYPE", choices: ["x509", "jwt", "wit"], sentence: "Only SVIDs of this type." },
    { name: "authorities", sentence: "The steps of authorities instead." },
    { name: "limit", short: "n", value: "COUNT", sentence: "How many at most, the latest first; 20 when not given." },
    ...DAEMON_OPTIONS,
  ],
  example: "riprap audit --spiffe-id spiffe://edge.example/curl",
  async run(invocation, terminal) {
    const client = clientOf(invocation);
    const limit = String(invocation.count("limit", LIMIT));
    if (invocation.has("authorities")) {
      const events = await client.get<readonly AuthorityEventView[]>("/v1/authorities/events", { query: { limit } });
      show(events, { invocation, terminal }, describeEvents);
      return 0;
    }
    const query = { limit, id: invocation.option("spiffe-id"), type: invocation.option("type") };
    const signed = await client.get<readonly SignedView[]>("/v1/signed", { query });
    show(signed, { invocation, terminal }, (list) => list.flatMap(describeSigned));
    return 0;
  },
};

export const REVOKE_COMMANDS: readonly Command[] = [revoke, audit];

function describeSigned({ type, id, spiffeId, signedAt, notAfter, revoked, audience, context }: SignedView): string[] {
  const { because, rule, by, pid, exe } = context;
  const facts = [
    ...(typeof rule === "string" ? [`rule ${rule}`] : []),
    ...(Array.isArray(because) ? because.map(String) : []),
    ...(pid === undefined ? [] : [`process ${String(pid)}, ${String(exe)}`]),
    ...(by === undefined ? [] : [`by ${String(by)}`]),
    ...(audience === undefined ? [] : [`for ${audience.join(", ")}`]),
    ...(revoked === undefined ? [] : [`revoked ${short(revoked.at)}: ${revoked.reason}`]),
  ];
  return [
    `${short(signedAt)}  ${type}  ${spiffeId}`,
    `  ${id}, until ${short(notAfter)}`,
    ...facts.map((fact) => `  ${fact}`),
  ];
}

function describeEvents(events: readonly AuthorityEventView[]): readonly string[] {
  return layOut(
    [{ title: "TIME" }, { title: "KIND" }, { title: "ID" }, { title: "STEP" }, { title: "REASON" }],
    events.map(({ at, kind, id, event, forced, reason }) => [
      short(new Date(at).toISOString()),
      kind,
      id.slice(0, 24),
      forced ? `${event}, forced` : event,
      reason,
    ]),
  );
}

function short(time: string): string {
  return time.replace(/\.\d+Z$/, "Z");
}
