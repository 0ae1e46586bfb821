// authority rebuild: another database for a node whose own is lost or damaged. Works on the state directory, while no daemon runs.

import { systemClock } from "../../clock.ts";
import { asOwner, requireNoDaemon, STATE_OPTION } from "../authority.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION } from "../command.ts";
import { show } from "../output.ts";
import { stateDirOf } from "../setting.ts";

const rebuild: Command = {
  words: ["authority", "rebuild"],
  group: "Set up",
  sentence: "Begin another database where this node's is lost or damaged.",
  notes: [
    "Keys and certificates lie apart from it, so that the node stays who it is and signs on. What was in state.db alone is lost, and the command says what that is and what to do about it; the old files are put aside, not removed.",
    "Refused while the database can be read. The daemon must be stopped.",
  ],
  arguments: [],
  options: [STATE_OPTION, JSON_OPTION, CONFIG_OPTION],
  example: "riprap authority rebuild",
  async run(invocation, terminal) {
    const stateDir = stateDirOf(invocation);
    await requireNoDaemon(invocation, "begin another database: a daemon uses this one");
    const { rebuildStore } = await import("../../ca.ts");
    const rebuilt = await asOwner(stateDir, () => rebuildStore({ stateDir, clock: systemClock }));
    show(rebuilt, { invocation, terminal }, ({ putAside, lost }) => [
      putAside.length === 0 ? "there was no file to put aside" : `put aside: ${putAside.join(", ")}`,
      ...lost,
      "next: systemctl start riprap",
    ]);
    return 0;
  },
};

export const REBUILD_COMMANDS: readonly Command[] = [rebuild];
