// The commands of the authorities' life: list, prepare, activate, taint, revoke, renew. Through the daemon, or with --state-dir beside it.

import type { Authorities, AuthorityKind, AuthorityList, AuthorityView, StepDone } from "../../ca.ts";
import { systemClock } from "../../clock.ts";
import { asOwner, STATE_OPTION, withAuthority } from "../authority.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, type Option, SOCKET_OPTION } from "../command.ts";
import { layOut } from "../grid.ts";
import type { Invocation } from "../invocation.ts";
import { show } from "../output.ts";
import { clientOf } from "../setting.ts";
import type { Terminal } from "../terminal.ts";

const KINDS: readonly AuthorityKind[] = ["x509", "jwt", "wit"];
const ID_SHOWN = 24;
const FORCE: Option = { name: "force", sentence: "Go on where that may have others refuse what is signed." };
const REASON: Option = { name: "reason", value: "TEXT", sentence: "Why, for the account of steps." };
const PLACE = [
  { ...STATE_OPTION, sentence: "Work on this state directory, without a daemon." },
  JSON_OPTION,
  SOCKET_OPTION,
  CONFIG_OPTION,
];
const ID = { name: "ID", sentence: "The authority's ID, or its first eight characters and more." };

const list: Command = {
  words: ["authority", "list"],
  group: "Authorities",
  sentence: "List the authorities of this node, and where each is in its life.",
  notes: [
    "prepared, published (in the trust bundle), active (signs), retired (what it signed is still good), revoked. Those that are revoked are shown with --all.",
  ],
  arguments: [],
  options: [{ name: "all", short: "a", sentence: "Show those too that are revoked." }, ...PLACE],
  example: "riprap authority list",
  async run(invocation, terminal) {
    const answer = await throughEither(invocation, {
      daemon: () => clientOf(invocation).get<AuthorityList>("/v1/authorities"),
      local: async (authorities) => authorities.list(),
    });
    const isShown = (one: AuthorityView) => invocation.has("all") || one.phase !== "revoked";
    show({ ...answer, authorities: answer.authorities.filter(isShown) }, { invocation, terminal }, linesOf);
    return 0;
  },
};

const prepare: Command = {
  words: ["authority", "prepare"],
  group: "Authorities",
  sentence: "Make the next root or token key, and put it into the trust bundle.",
  notes: [
    "It signs nothing before it is activated. Token keys are replaced by themselves before their end; roots are not.",
  ],
  arguments: [{ name: "KIND", choices: KINDS, sentence: "A root (x509), or a key for JWT-SVIDs or WIT-SVIDs." }],
  options: [REASON, ...PLACE],
  example: "riprap authority prepare x509",
  run(invocation, terminal) {
    const kind = invocation.argument("KIND") as AuthorityKind;
    return step({ invocation, terminal }, { name: "prepare", query: { kind } }, (authorities) =>
      authorities.prepare(kind, optionsOf(invocation)),
    );
  },
};

function stepCommand(
  name: "activate" | "taint" | "revoke",
  about: Pick<Command, "sentence" | "notes" | "example">,
): Command {
  return {
    words: ["authority", name],
    group: "Authorities",
    ...about,
    arguments: [ID],
    options: [FORCE, REASON, ...PLACE],
    run(invocation, terminal) {
      const id = invocation.argument("ID");
      return step({ invocation, terminal }, { name, query: { id } }, (authorities) =>
        authorities[name](id, optionsOf(invocation)),
      );
    },
  };
}

const activate = stepCommand("activate", {
  sentence: "Sign with a published authority from now on; the one before it retires.",
  notes: [
    "A root moves this node's intermediate under itself. Before its time (keyPublishAhead after it was published) it is refused: who has not seen the new bundle would refuse what it signs.",
  ],
  example: "riprap authority activate 3b0c5a1e",
});

const taint = stepCommand("taint", {
  sentence: "Make all under an authority anew at once, then trust it no longer.",
  notes: [
    "The one that signs is tainted with --force alone: another is made and signs at once. A root under which other nodes have their intermediates stays until those are enrolled again, or until it is revoked.",
  ],
  example: "riprap authority taint 3b0c5a1e --force --reason 'the key was copied'",
});

const revoke = stepCommand("revoke", {
  sentence: "Take an authority out of the trust bundle and destroy its key.",
  example: "riprap authority revoke 3b0c5a1e",
});

const renew: Command = {
  words: ["authority", "renew"],
  group: "Authorities",
  sentence: "Give this node's intermediate a new key and certificate.",
  notes: [
    "Where the root key is on this node. It happens by itself when a third of its life is left. What the old one signed stays good.",
  ],
  arguments: [],
  options: [REASON, ...PLACE],
  example: "riprap authority renew",
  run: (invocation, terminal) =>
    step({ invocation, terminal }, { name: "renew", query: {} }, (authorities) =>
      authorities.renewIntermediate(optionsOf(invocation)),
    ),
};

export const AUTHORITY_LIFE_COMMANDS: readonly Command[] = [list, prepare, activate, taint, revoke, renew];

/** With `--state-dir` on the files themselves, else by the daemon. */
export async function throughEither<T>(
  invocation: Invocation,
  ways: { daemon(): Promise<T>; local(authorities: Authorities): Promise<T> },
): Promise<T> {
  const stateDir = invocation.option("state-dir");
  if (stateDir === undefined) return await ways.daemon();
  const { openAuthorities } = await import("../../ca.ts");
  return await asOwner(stateDir, () =>
    withAuthority(stateDir, async ({ trustDomain }, store) => {
      const { requireSayableBeside, sayRootsBeside } = await import("../../daemon/fleet/root_voice.ts");
      const beside = () => ({ stateDir, store, trustDomain, now: systemClock.now() });
      const beforeRootMoves = (ending?: Uint8Array) => requireSayableBeside(beside(), ending);
      const answer = await ways.local(openAuthorities({ stateDir, clock: systemClock, store, beforeRootMoves }));
      // A root that is revoked later can bring in nobody.
      sayRootsBeside(beside());
      return answer;
    }),
  );
}

async function step(
  to: { invocation: Invocation; terminal: Terminal },
  route: { name: string; query: Readonly<Record<string, string>> },
  local: (authorities: Authorities) => Promise<StepDone>,
): Promise<number> {
  const { force, reason } = optionsOf(to.invocation);
  const query = { ...route.query, force: force ? "1" : undefined, reason };
  const done = await throughEither(to.invocation, {
    daemon: () => clientOf(to.invocation).post<StepDone>(`/v1/authorities/${route.name}`, { query, waitMs: 30_000 }),
    local,
  });
  show(done, to, ({ authority, notes }) => [
    `${authority.kind} authority ${authority.id}: ${authority.phase}`,
    ...notes,
  ]);
  return 0;
}

function optionsOf(invocation: Invocation): { force: boolean; reason: string } {
  return { force: invocation.has("force"), reason: invocation.option("reason") ?? "" };
}

function linesOf({ trustDomain, authorities, intermediate }: AuthorityList): readonly string[] {
  const { node, serial, notAfter, root } = intermediate;
  return [
    `trust domain ${trustDomain}`,
    ...layOut(
      [
        { title: "KIND" },
        { title: "ID" },
        { title: "PHASE" },
        { title: "KEY" },
        { title: "SIGNS" },
        { title: "UNTIL" },
      ],
      authorities.map((one) => [
        one.kind,
        // Enough to name it by; --json has the whole.
        one.id.slice(0, ID_SHOWN),
        one.isTainted ? `${one.phase}, tainted` : one.phase,
        one.isHeld ? "here" : one.phase === "revoked" ? "gone" : "elsewhere",
        one.usableFrom === undefined ? one.algorithm : `from ${short(one.usableFrom)}`,
        short(one.notAfter),
      ]),
    ),
    `intermediate of ${node}: serial ${serial}`,
    `  until ${short(notAfter)}, under ${root.slice(0, ID_SHOWN)}`,
  ];
}

function short(time: string): string {
  return time.replace(/\.\d+Z$/, "Z");
}
