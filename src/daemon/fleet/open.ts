// Builds this node's fleet from its configuration and its CA, and ties it to the daemon's other rooms. Contains calls, not work.

import { networkInterfaces } from "node:os";
import {
  authorityIdOf,
  type KeyStore,
  type NodeAuthority,
  openNodeKeys,
  publicKeysOf,
  readNodeChain,
  revokedSets,
  signEnrolment,
  signedUnder,
} from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { rootFingerprint } from "../../enrolment.ts";
import { RiprapError } from "../../error.ts";
import type { Signer } from "../../federation/curve.ts";
import { type NatsProof, readNatsProof } from "../../federation/nats_proof.ts";
import { fleetSubjects } from "../../federation/subject.ts";
import { fingerprintOf } from "../../federation/succession.ts";
import type { Transport } from "../../federation/transport.ts";
import { readPrivateFile } from "../../private_file.ts";
import type { Store } from "../../store.ts";
import type { DaemonConfig } from "../config.ts";
import { Fleet } from "../fleet.ts";
import type { Log } from "../log.ts";
import { Admitter } from "./admitter.ts";
import { readBrokerCa } from "./broker_ca.ts";
import type { FleetHooks } from "./hook.ts";
import { openNkeySeed, openOperatorKey } from "./member.ts";
import { noteRefusals } from "./refusal.ts";
import { Renewer } from "./renewer.ts";
import { SetKeeper } from "./set_keeper.ts";
import { openFleetSetting } from "./setting.ts";
import { openTokenTable } from "./token_table.ts";

export interface FleetGround {
  readonly config: Pick<DaemonConfig, "stateDir" | "natsServers" | "natsCredentials" | "natsCa" | "nodeAddresses">;
  readonly authority: Pick<NodeAuthority, "trustDomain" | "nodeName" | "bundle" | "info">;
  readonly keys?: KeyStore;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
}

export interface FleetRoom {
  readonly fleet: Fleet;
  readonly admitter: Admitter;
  readonly renewer: Renewer;
  /** Told when a serial number was revoked. */
  readonly sets: Pick<SetKeeper, "soon">;
  readonly servers: readonly string[];
  /** The key of the person who has this node, where one was made. */
  operator(): Signer | undefined;
  /** When an SVID that this node signed under one of its authorities ends, in milliseconds; undefined for what its journal does not know. */
  endOf(svid: { readonly authority: string; readonly value: string }): number | undefined;
  /** Has the root above this node's intermediate retired? */
  isRootEnding(): boolean;
  /** Does this node's entry in the roster lack the authority that it signs with? */
  isUnnamed(): boolean;
}

const CREDENTIAL_BYTES_MAX = 16_384;

/** Throws RiprapError `fleet_credentials` when a configured file cannot be used. */
export async function openFleet(ground: FleetGround, hooks: FleetHooks): Promise<FleetRoom> {
  const { config, authority, store, clock, log, random } = ground;
  const keys = ground.keys ?? openNodeKeys(config.stateDir);
  const { trustDomain, nodeName, bundle } = authority;
  const authorityKey = () => publicKeysOf(readNodeChain(config.stateDir).slice(0, 1))[0] ?? new Uint8Array();
  const { servers, ca } = brokerOf(config, store);
  // The client of the broker is loaded where there is one.
  const nats = servers.length > 0 ? await openNatsClient(config, keys) : undefined;
  const inboxPrefix = fleetSubjects(trustDomain).inbox(nodeName);
  // The fleet speaks while it is built.
  const late: { admitter?: Admitter } = {};
  const fleet: Fleet = new Fleet({
    ...{
      stateDir: config.stateDir,
      nodeName,
      trustDomain,
      bundle,
      authorityKey,
      keys,
      store,
      clock,
      log,
      random,
    },
    hooks: {
      ...hooks,
      trustChanged(revoked, own) {
        hooks.trustChanged(revoked, own);
        late.admitter?.listen(fleet.transport);
      },
    },
    idPrefixes: authority.info().idPrefixes,
    nkey: nats?.nkey,
    openTransport:
      nats === undefined
        ? undefined
        : async () => nats.open({ servers, ca, name: nodeName, inboxPrefix, clock, random }),
    onTransport(transport) {
      noteRefusals(transport, { journal: fleet.journal, log });
      admitter.listen(transport);
      // What was due while nobody could be asked.
      transport.onState(({ phase }) => {
        if (phase === "connected") renewer.soon();
      });
      hooks.connected(transport);
    },
    answer: (said) => renewer.answer(said),
    run: async (signal) => void (await Promise.all([renewer.run(signal), sets.run(signal), admitter.run(signal)])),
  });
  const { stateDir } = config;
  const ownRoot = () => authority.info().issuer.root;
  const isRootEnding = () =>
    fleet.state.roots?.some((entry) => entry.state !== "trusted" && fingerprintOf(entry) === ownRoot()) === true;
  const isUnnamed = () => fleet.self?.authorities.includes(authorityIdOf(authorityKey())) === false;
  const sign: ConstructorParameters<typeof Admitter>[0]["sign"] = async (request, as) => {
    if (isRootEnding()) throw rootRetired();
    return signEnrolment({ stateDir, request, ...as, clock });
  };
  const tokens = openTokenTable(store, keys);
  const roots = () => ({ all: authority.bundle.map(rootFingerprint), signing: ownRoot() });
  const admitter = new Admitter({ fleet, tokens, nodeName, trustDomain, roots, servers, ca, clock, log, sign });
  late.admitter = admitter;
  const renewer = new Renewer({
    ...{ fleet, stateDir, store, keys, clock, log, random },
    validity() {
      const { issuer } = authority.info();
      return { notBefore: issuer.notBefore.getTime(), notAfter: issuer.notAfter.getTime() };
    },
    isRootEnding,
    isUnnamed,
    nameSelf: () => fleet.refreshOwn(),
    isRevoked: () => fleet.state.standing.revocationsOf(`authority:${authorityIdOf(authorityKey())}`).length > 0,
    async sign(request, idPrefixes) {
      if (isRootEnding()) throw rootRetired();
      return signEnrolment({ stateDir, request, idPrefixes, isRenewal: true, clock });
    },
    nameAuthority: (node, { chain }) =>
      fleet.nameAuthority(node, publicKeysOf(chain.slice(0, 1))[0] ?? new Uint8Array()),
    onRenewed: () => hooks.renewed(),
  });
  const sets = new SetKeeper({ fleet, clock, log, makeSets: (wanted) => revokedSets(store, wanted) });
  const endOf: FleetRoom["endOf"] = ({ authority: issuer, value }) => {
    const svid = signedUnder(store, value);
    return svid?.authority === issuer ? svid.notAfter.getTime() : undefined;
  };
  const operator = () => openOperatorKey(keys);
  return { fleet, admitter, renewer, sets, servers, operator, endOf, isRootEnding, isUnnamed };
}

function rootRetired(): RiprapError {
  const remedy = "ask a root for another with riprap root request --issuing";
  const fact = `the root above this node's CA has retired; ${remedy}`;
  return new RiprapError("root_retired", `Cannot sign an intermediate: ${fact}`);
}

/** The addresses that this node announces: the configured ones, or those of its network cards. */
export function nodeAddresses(config: Pick<DaemonConfig, "nodeAddresses">): readonly string[] {
  if (config.nodeAddresses.length > 0) return config.nodeAddresses;
  return Object.values(networkCards())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith("fe80:") && !address.includes("%"))
    .map(({ address }) => address);
}

/** None where it may not ask for them: riprap.service has no network, and AF_NETLINK only with the drop-in that gives it one. */
function networkCards(): ReturnType<typeof networkInterfaces> {
  try {
    return networkInterfaces();
  } catch {
    return {};
  }
}

interface NatsPlace {
  readonly servers: readonly string[];
  /** PEM; empty for the CAs of the system. */
  readonly ca: string;
  readonly name: string;
  readonly inboxPrefix: string;
  readonly clock: Clock;
  readonly random: () => number;
}

export async function openNatsClient(
  config: FleetGround["config"],
  keys: KeyStore,
): Promise<{ readonly nkey: string; open(place: NatsPlace): Transport }> {
  const { createNkey, nkeyOfSeed, openNats } = await import("../../federation/nats.ts");
  const seed = openNkeySeed(keys, () => createNkey().seed);
  const proof = config.natsCredentials === "" ? ({ kind: "nkey", seed } as const) : readProof(config.natsCredentials);
  const nkey = proof.kind === "nkey" ? nkeyOfSeed(proof.seed) : nkeyOfSeed(seed);
  return { nkey, open: ({ ca, ...place }) => openNats({ ...place, ...caOption(ca), proof }) };
}

/** What a person configured; else what the token said. The CA of a token is of the servers that it names, and of no others. */
function brokerOf(config: FleetGround["config"], store: Store): { servers: readonly string[]; ca: string } {
  const setting = openFleetSetting(store);
  const [servers, told] =
    config.natsServers.length > 0 ? [config.natsServers, ""] : [setting.servers(), setting.brokerCa()];
  // Nothing is asked of a file that nothing needs.
  return { servers, ca: config.natsCa === "" || servers.length === 0 ? told : readBrokerCa(config.natsCa) };
}

/** Without any, a certificate is held against the CAs of the system. */
export function caOption(ca: string): { ca?: string } {
  return ca === "" ? {} : { ca };
}

/** Throws RiprapError `fleet_credentials`, or what readPrivateFile throws. */
export function readProof(path: string): NatsProof {
  const proof = readNatsProof(readPrivateFile(path, CREDENTIAL_BYTES_MAX));
  if (proof !== undefined) return proof;
  const fact = `${path} is neither a NATS credentials file nor the nkey seed of a user`;
  throw new RiprapError("fleet_credentials", `Cannot prove this node to the NATS server: ${fact}`);
}
