// svid list: what this node signed, out of its journals. Works on the state directory, not through the daemon.

import type { SignedSvid } from "../../ca.ts";
import { systemClock } from "../../clock.ts";
import { asOwner, STATE_OPTION, withAuthority } from "../authority.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION } from "../command.ts";
import { layOut } from "../grid.ts";
import { show } from "../output.ts";
import { stateDirOf } from "../setting.ts";

const LIMIT = { fallback: 50, min: 1, max: 10_000 };
const TYPES = ["x509", "jwt", "wit"] as const;

export const svidList: Command = {
  words: ["svid", "list"],
  group: "See",
  sentence: "List the SVIDs that this node signed, the latest first.",
  notes: ["For whom, until when, whether revoked, and by which rule; with --json also the labels that matched."],
  arguments: [],
  options: [
    { name: "spiffe-id", value: "ID", sentence: "Of this SPIFFE ID alone." },
    { name: "type", value: "TYPE", choices: TYPES, sentence: "Of this type alone." },
    { name: "valid", sentence: "Leave out what has ended or is revoked." },
    { name: "limit", value: "COUNT", sentence: "So many at most, 50 when not given." },
    STATE_OPTION,
    JSON_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap svid list --valid",
  async run(invocation, terminal) {
    const stateDir = stateDirOf(invocation);
    const limit = invocation.count("limit", LIMIT);
    const spiffeId = invocation.option("spiffe-id");
    const type = TYPES.find((name) => name === invocation.option("type"));
    const { signedSvids } = await import("../../ca.ts");
    const query = { ...(spiffeId === undefined ? {} : { spiffeId }), ...(type === undefined ? {} : { type }) };
    const isWanted = invocation.has("valid") ? isValid : () => true;
    const list = await asOwner(stateDir, () =>
      withAuthority(stateDir, (_authority, store) =>
        // What has ended stays in the journals for a while: the whole of them is looked through.
        signedSvids(store, { ...query, limit: LIMIT.max })
          .filter(isWanted)
          .slice(0, limit),
      ),
    );
    show(list, { invocation, terminal }, linesOf);
    return 0;
  },
};

function isValid({ notAfter, revoked }: SignedSvid): boolean {
  return revoked === undefined && notAfter.getTime() > systemClock.now();
}

function linesOf(list: readonly SignedSvid[]): readonly string[] {
  return layOut(
    [{ title: "TYPE" }, { title: "SPIFFE ID" }, { title: "UNTIL" }, { title: "STATE" }, { title: "RULE" }],
    list.map((svid) => {
      const { type, spiffeId, notAfter, revoked, context } = svid;
      const state = revoked !== undefined ? "revoked" : isValid(svid) ? "valid" : "ended";
      const rule = typeof context["rule"] === "string" ? context["rule"] : String(context["by"] ?? "");
      return [type, spiffeId, notAfter.toISOString().replace(/\.\d+Z$/, "Z"), state, rule];
    }),
  );
}
