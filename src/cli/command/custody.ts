// Where the keys of the node's CA lie: shows it, moves them to a TPM, a systemd credential or files, and takes one out for a safe place.

import type { CustodyView } from "../../ca.ts";
import { asOwner, requireNoDaemon, STATE_OPTION } from "../authority.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION } from "../command.ts";
import { show } from "../output.ts";
import { stateDirOf } from "../setting.ts";

const custody: Command = {
  words: ["authority", "custody"],
  group: "Set up",
  sentence: "Show what keeps the keys of this node's CA, or move them.",
  notes: [
    "tpm and systemd seal every key and secret of the node to this machine: a copy of its disk is worth nothing. auto takes the best that there is. While the kernel module runs it holds the keys that sign, whatever keeps them at rest.",
    "Each key is written, read back and opened before its old file is overwritten; a move that was cut off goes on when it is asked for again. The daemon must be stopped.",
    "A seal cannot be opened elsewhere, nor after the TPM is cleared or the machine set up anew: such a node is enrolled again. Take the root key out first (riprap authority export).",
  ],
  arguments: [
    {
      name: "CUSTODY",
      optional: true,
      choices: ["auto", "tpm", "systemd", "file"],
      sentence: "Where the keys are to be; nothing is moved when it is not given.",
    },
  ],
  options: [STATE_OPTION, JSON_OPTION, CONFIG_OPTION],
  example: "riprap authority custody tpm",
  async run(invocation, terminal) {
    const stateDir = stateDirOf(invocation);
    const { CUSTODY_SETTINGS, moveNodeCustody, nodeCustody } = await import("../../ca.ts");
    const wanted = CUSTODY_SETTINGS.find((setting) => setting === invocation.optionalArgument("CUSTODY"));
    if (wanted === undefined) {
      const view = await asOwner(stateDir, () => nodeCustody(stateDir));
      show(view, { invocation, terminal }, describeView);
      return 0;
    }
    await requireNoDaemon(invocation, "move the keys: a daemon uses them");
    const change = await asOwner(stateDir, () => moveNodeCustody(stateDir, wanted));
    show(change, { invocation, terminal }, ({ from, to, moved }) => [
      `${moved} keys and secrets moved; ${from === to ? "still" : `from ${from}`} ${from === to ? "" : "to "}${to}`,
      ...(to === "systemd" ? ["next: systemctl restart riprap, whose unit hands the credential to the daemon"] : []),
    ]);
    return 0;
  },
};

const takeOut: Command = {
  words: ["authority", "export"],
  group: "Set up",
  sentence: "Write a key of this node's CA into a file, to keep it in a safe place.",
  notes: [
    "The file holds the key in the open (PKCS#8 DER, mode 0600): take it off this machine. Put back as ca/NAME.key it is used again, under a seal or not.",
  ],
  arguments: [
    { name: "NAME", sentence: "Which, as riprap authority custody lists them: root, node, …" },
    { name: "FILE", sentence: "The file, which must not be there yet." },
  ],
  options: [
    {
      name: "remove",
      sentence: "Then remove the key from this node; the root key is wanted again when a node is enrolled.",
    },
    STATE_OPTION,
    JSON_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap authority export root /media/safe/root.key --remove",
  async run(invocation, terminal) {
    const stateDir = stateDirOf(invocation);
    const name = invocation.argument("NAME");
    const file = invocation.argument("FILE");
    const { exportNodeKey } = await import("../../ca.ts");
    const remove = invocation.has("remove");
    await asOwner(stateDir, () => exportNodeKey(stateDir, { name, file, remove }));
    show({ name, file, removed: remove }, { invocation, terminal }, () => [
      `${name} is in ${file}${remove ? ", and no longer on this node" : ""}`,
    ]);
    return 0;
  },
};

export const CUSTODY_COMMANDS: readonly Command[] = [custody, takeOut];

function describeView({ custody: now, keys, available }: CustodyView): string[] {
  return [
    `custody      ${now}`,
    ...keys.map(({ name, sealed }) => `${name.padEnd(12)} ${sealed ? "sealed" : "lies open in its file (0600)"}`),
    `available    ${available.length === 0 ? "file alone: no TPM and no systemd here" : [...available, "file"].join(", ")}`,
  ];
}
