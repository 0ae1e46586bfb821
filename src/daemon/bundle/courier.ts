// Trust bundles between trust domains over the broker: says this one's, signed by an X509-SVID, and takes those of others that a person has pinned.

import { createPrivateKey, hash, type KeyObject, sign, X509Certificate } from "node:crypto";
import { fingerprintBundle } from "../../bundle_fingerprint.ts";
import type { NodeAuthority } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { describeError, RiprapError } from "../../error.ts";
import {
  BUNDLE_MESSAGE_MAX,
  type BundleFault,
  type BundleMessage,
  type BundleRefusal,
  bundleMessageFault,
  parseBundleMessage,
  verifyBundleMessage,
  writeBundleMessage,
} from "../../federation/bundle_message.ts";
import { fleetSubjects } from "../../federation/subject.ts";
import type { Subscription, Transport } from "../../federation/transport.ts";
import type { ForeignTrustDomain } from "../../resource.ts";
import type { TrustDomain } from "../../spiffe_id.ts";
import { parseTrustBundle, type TrustBundle, writeTrustBundle } from "../../trust_bundle.ts";
import type { BundleBook } from "../bundle.ts";
import { type CertificateSource, svidCertificate } from "../endpoint/certificate.ts";
import { endpointId } from "../endpoint.ts";
import type { Log } from "../log.ts";
import type { SequenceStore } from "./sequence.ts";

export interface CourierParts {
  readonly book: BundleBook;
  readonly authority: Pick<NodeAuthority, "epoch" | "trustDomain" | "issueX509Svids" | "verifyPeerChain">;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  readonly sequences: SequenceStore;
  /** This trust domain's own; undefined while it is not open yet. */
  own(): TrustBundle | undefined;
  /** Is it this node that speaks for the trust domain? */
  isSpeaker(): boolean;
}

/** With what this node signs for its trust domain. */
interface Speaking {
  readonly signer: KeyObject;
  readonly chain: readonly Uint8Array[];
  readonly loadedAt: number;
  readonly renewAt: number;
}

type NumberedBundle = TrustBundle & { readonly sequence: bigint };

/** A partner says his bundle twice a minute; more than this in a second is somebody who has our processor in mind. */
const HEARD_MAX = 16;
const HEARD_IN_MS = 1000;

/** Core NATS keeps nothing: who begins to listen waits for the next. */
const SAY_EVERY_MS = 30_000;
const LOOK_EVERY_MS = 2_000;

export class Courier {
  readonly counters = { said: 0, taken: 0, unchanged: 0 };
  readonly refused = new Map<BundleRefusal, number>();
  readonly #parts: CourierParts;
  readonly #source: CertificateSource;
  readonly #heard = new Map<string, Subscription>();
  /** By trust domain: the time of the last message that was believed. */
  readonly #last = new Map<string, number>();
  readonly #told = new Map<string, string>();
  /** Messages of each trust domain that is listened to, since when. */
  readonly #counted = new Map<string, { readonly from: number; readonly count: number }>();
  #transport: Transport | undefined;
  /** A bundle is a value that never changes: the last one is numbered once. */
  #numbered: { readonly bundle: TrustBundle; readonly published: NumberedBundle } | undefined;
  #current: Speaking | undefined;

  constructor(parts: CourierParts) {
    this.#parts = parts;
    const { authority, clock, random } = parts;
    const spiffeId = endpointId(authority.trustDomain);
    this.#source = svidCertificate({ authority, spiffeId, clock, random });
  }

  /** There is a broker: hears the trust domains that the rules name. */
  connect(transport: Transport): void {
    this.#transport = transport;
    this.configure(this.#parts.book.configured());
  }

  /** The rules in force name these. */
  configure(trustDomains: readonly ForeignTrustDomain[]): void {
    if (this.#transport === undefined) return;
    const wanted = new Map(
      trustDomains.filter(({ endpoint }) => endpoint === undefined).map((one) => [one.trustDomain.name, one]),
    );
    for (const [name, subscription] of this.#heard) {
      if (wanted.has(name)) continue;
      subscription.close();
      this.#heard.delete(name);
      this.#counted.delete(name);
    }
    for (const [name, { trustDomain }] of wanted) {
      if (this.#heard.has(name)) continue;
      const { bundle } = fleetSubjects(name);
      this.#heard.set(
        name,
        this.#transport.subscribe(bundle, ({ subject, data }) => this.hear(trustDomain, { subject, data })),
      );
    }
  }

  /** Why the last message of a trust domain was refused; undefined when the last was good, or none came. */
  faultOf({ name }: TrustDomain): string | undefined {
    return this.#told.get(name);
  }

  /** Until the signal: says the bundle now and then, and at once when it is another. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    let [saidAt, saidSequence] = [Number.NEGATIVE_INFINITY, -1n];
    while (!signal.aborted) {
      const bundle = this.#published();
      const isDue = bundle !== undefined && (bundle.sequence !== saidSequence || clock.now() - saidAt >= SAY_EVERY_MS);
      if (isDue && this.#parts.isSpeaker() && this.#say(bundle))
        [saidAt, saidSequence] = [clock.now(), bundle.sequence];
      await clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
    }
  }

  /** One message of a trust domain that the rules name. Never throws. */
  hear(trustDomain: TrustDomain, { subject, data }: { readonly subject: string; readonly data: Uint8Array }): void {
    const { log } = this.#parts;
    const fault = this.#judge(trustDomain, { subject, data });
    if (fault === undefined) return void this.#told.delete(trustDomain.name);
    const [code, fact] = fault;
    this.refused.set(code, (this.refused.get(code) ?? 0) + 1);
    const said = `Cannot take the bundle of ${trustDomain} from the broker: ${fact}`;
    // Anybody with the broker's rights can send the same a thousand times a second.
    if (!this.#told.get(trustDomain.name)?.startsWith(`${code}: `))
      log.warn("a bundle from the broker was refused", { code, reason: said });
    this.#told.set(trustDomain.name, `${code}: ${said}`);
  }

  #judge(trustDomain: TrustDomain, { subject, data }: { subject: string; data: Uint8Array }): BundleFault | undefined {
    const { book, clock } = this.#parts;
    if (this.#isTooOften(trustDomain, clock.now()))
      return ["too_often", `more than ${HEARD_MAX} messages came within a second`];
    if (data.length > BUNDLE_MESSAGE_MAX) return ["too_large", `the message has more than ${BUNDLE_MESSAGE_MAX} bytes`];
    const resource = book.configured().find((each) => each.trustDomain.equals(trustDomain));
    if (resource === undefined) return ["unknown_domain", "no rule trusts it"];
    if (resource.endpoint !== undefined)
      return ["has_endpoint", `TrustDomain/${resource.name} says that it comes from ${resource.endpoint.url.href}`];
    const message = tryParse(data);
    if (message === undefined) return ["malformed", "it cannot be read"];
    const last = this.#last.get(trustDomain.name);
    const early = bundleMessageFault(message, { subject, of: trustDomain, now: clock.now(), last });
    return early ?? this.#takeFrom(resource, message);
  }

  /** Chains are verified for anybody who may publish there: that is what has to have a bound, of each trust domain its own. */
  #isTooOften({ name }: TrustDomain, now: number): boolean {
    const heard = this.#counted.get(name);
    const isFresh = heard === undefined || Math.abs(now - heard.from) >= HEARD_IN_MS;
    const count = isFresh ? 1 : heard.count + 1;
    this.#counted.set(name, { from: isFresh ? now : heard.from, count });
    return count > HEARD_MAX;
  }

  #takeFrom(resource: ForeignTrustDomain, message: BundleMessage): BundleFault | undefined {
    const { book, authority } = this.#parts;
    const { trustDomain } = resource;
    const held = book.bundleOf(trustDomain);
    const offered = tryParseBundle(message.document, trustDomain);
    if (offered === undefined) return ["malformed", "its document is no trust bundle of that trust domain"];
    const pin = book.pinOf(trustDomain);
    if (held === undefined && pin === undefined) {
      const remedy = `compare its fingerprint with a person there, and give it to \`riprap bundle pin ${trustDomain} FINGERPRINT\``;
      return ["unpinned", `nothing is held of it and nobody has pinned it; ${remedy}`];
    }
    // What is held says who may speak; at first contact the pin does, and the bundle has to hold its own author.
    const answer = authority.verifyPeerChain(message.chain, (wanted) =>
      wanted.equals(trustDomain) ? (held ?? offered) : undefined,
    );
    const expected = endpointId(trustDomain.name);
    if (!answer.ok) return ["chain_refused", `its author's certificates do not hold: ${answer.message}`];
    if (answer.spiffeId.toString() !== expected.toString())
      return ["chain_refused", `its author is ${answer.spiffeId}, and ${expected} speaks for it`];
    if (!verifyBundleMessage(message, answer.publicKey)) return ["forged", "its author did not sign it as it stands"];
    if (held === undefined && pin !== undefined && !isPinned(pin, offered, answer.root)) {
      const root = hash("sha256", answer.root, "hex");
      return [
        "wrong_pin",
        `its fingerprint is ${fingerprintBundle(offered)}, its author's root ${root}, and ${pin} is pinned`,
      ];
    }
    return this.#take(trustDomain, message);
  }

  #take(trustDomain: TrustDomain, { document, time }: BundleMessage): BundleFault | undefined {
    try {
      const { outcome } = this.#parts.book.take(trustDomain, document, { source: "fleet" });
      this.#last.set(trustDomain.name, time);
      this.counters[outcome] += 1;
      return undefined;
    } catch (thrown) {
      if (!(thrown instanceof RiprapError)) throw thrown;
      return ["not_taken", thrown.message];
    }
  }

  #say(bundle: TrustBundle): boolean {
    const { authority, clock, log } = this.#parts;
    const { trustDomain } = authority;
    const { bundle: subject } = fleetSubjects(trustDomain);
    try {
      const { chain, signer } = this.#certificate();
      const said = { trustDomain, subject, time: clock.now(), chain, document: writeTrustBundle(bundle) };
      const bytes = writeBundleMessage(said, (content) => new Uint8Array(sign("sha256", content, signer)));
      if (this.#transport?.publish(subject, bytes) !== true) return false;
      this.counters.said += 1;
      this.#told.delete(trustDomain);
      return true;
    } catch (thrown) {
      const error = describeError(thrown);
      if (this.#told.get(trustDomain) !== error)
        log.warn("the trust bundle was not said to other trust domains", { error });
      this.#told.set(trustDomain, error);
      return false;
    }
  }

  /** Numbered so that whichever issuing node speaks, what was said later has the greater number. */
  #published(): NumberedBundle | undefined {
    const bundle = this.#transport === undefined ? undefined : this.#parts.own();
    if (bundle === undefined) return undefined;
    if (this.#numbered?.bundle === bundle) return this.#numbered.published;
    const published = {
      ...bundle,
      sequence: this.#parts.sequences.of(fingerprintBundle(bundle), this.#parts.clock.now()),
    };
    this.#numbered = { bundle, published };
    return published;
  }

  #certificate(): Speaking {
    const now = this.#parts.clock.now();
    // Renewed at half of its life: the author's chain must be good for as long as a message may be on its way.
    if (this.#current === undefined || now > this.#current.renewAt || now < this.#current.loadedAt) {
      const loaded = this.#source.load();
      const chain = loaded.cert
        .split(/(?<=-----END CERTIFICATE-----\n)/)
        .map((pem) => new Uint8Array(new X509Certificate(pem).raw));
      const renewAt = now + (loaded.notAfter - now) / 2;
      this.#current = { signer: createPrivateKey(loaded.key), chain, renewAt, loadedAt: now };
    }
    return this.#current;
  }
}

/** A pin is the fingerprint of a whole bundle (`sha256:…`), or that of the root above its author. */
function isPinned(pin: string, offered: TrustBundle, root: Uint8Array): boolean {
  return pin.startsWith("sha256:") ? fingerprintBundle(offered) === pin : hash("sha256", root, "hex") === pin;
}

function tryParse(data: Uint8Array): BundleMessage | undefined {
  try {
    return parseBundleMessage(data);
  } catch {
    // Anyone with the broker's rights may have sent it: the refusal is counted.
    return undefined;
  }
}

function tryParseBundle(document: string, trustDomain: TrustDomain): TrustBundle | undefined {
  try {
    return parseTrustBundle(document, trustDomain);
  } catch {
    return undefined;
  }
}
