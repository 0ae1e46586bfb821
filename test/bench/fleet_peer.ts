// A peer of a fleet as the benches simulate it: a real connection, with a state, a gate and a voice of its own.

import { systemClock } from "../../src/clock.ts";
import { FleetState, type StatementStore } from "../../src/federation/fleet_state.ts";
import { Gate } from "../../src/federation/gate.ts";
import { openNats } from "../../src/federation/nats.ts";
import { authorOf } from "../../src/federation/roster.ts";
import type { Statement } from "../../src/federation/statement.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import type { Transport } from "../../src/federation/transport.ts";
import { Voice } from "../../src/federation/voice.ts";
import { DOMAIN, makeRoot, say, sayNode, voice } from "../federation/fleet_fixture.ts";
import type { NatsServer } from "../fleet/nats_server.ts";

export const SUBJECTS = fleetSubjects(DOMAIN);
/** The issuing node that is also the operator. */
export const SPEAKER = "speaker";

/** What every node of a fleet knows from its token: who the root made an issuing node and an operator, and who speaks. */
function groundStatements(): { root: ReturnType<typeof makeRoot>; ground: Statement[] } {
  const root = makeRoot();
  const speaker = voice(SPEAKER);
  const key = Buffer.from(speaker.publicKey).toString("hex");
  const rights = {
    kinds: ["Service", "AccessPolicy"],
    groups: undefined,
    idPrefixes: undefined,
    revoke: ["id"] as const,
  };
  const ground = [
    say(root, ["issuer", SPEAKER], { key, authority: undefined, idPrefixes: [`spiffe://${DOMAIN}/`] }),
    say(root, ["operator", "admin"], { key, ...rights }),
    sayNode(speaker, SPEAKER),
  ];
  return { root, ground };
}

export function openState(extra: readonly Statement[] = [], store?: StatementStore): FleetState {
  const { root, ground } = groundStatements();
  const kept = store === undefined ? {} : { store };
  const state = new FleetState({ trustDomain: DOMAIN, roots: [root.publicKey], ...kept });
  state.applyAll([...ground, ...extra], Date.now());
  return state;
}

export function openTransport(server: NatsServer, name: string): Transport {
  return openNats({
    servers: [server.url],
    name,
    inboxPrefix: SUBJECTS.inbox(name),
    clock: systemClock,
    random: Math.random,
  });
}

export function connected(transport: Transport): Promise<void> {
  return new Promise((resolve) => {
    if (transport.state.phase === "connected") resolve();
    transport.onState(({ phase }) => phase === "connected" && resolve());
  });
}

export function openVoice(name: string): Voice {
  let epoch = Date.now() % 1_000_000;
  const store = {
    read: () => epoch,
    write(value: number) {
      epoch = value;
    },
  };
  return new Voice({ trustDomain: DOMAIN, signer: voice(name), store });
}

export function openGate(state: FleetState): Gate {
  return new Gate({ trustDomain: DOMAIN, authorOf: (key) => authorOf(state, key), startedAt: Date.now() - 1000 });
}
