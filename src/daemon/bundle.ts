// The trust bundles of other trust domains: what is held of each, what may take its place, and who is told. Bundles are never joined.

import { hash } from "node:crypto";
import { fingerprintBundle } from "../bundle_fingerprint.ts";
import type { MappedBundle } from "../bundle_map.ts";
import type { Clock } from "../clock.ts";
import { describeError, RiprapError } from "../error.ts";
import { decideUpdate } from "../federation/bundle_update.ts";
import type { ForeignTrustDomain } from "../resource.ts";
import { TrustDomain } from "../spiffe_id.ts";
import type { Store } from "../store.ts";
import { type ParsedBundle, parseTrustBundle, type TrustBundle } from "../trust_bundle.ts";
import { readFirstBundle } from "./bundle/first.ts";
import { type BundleSource, type BundleTable, openBundleTable } from "./bundle/store.ts";
import type { Log } from "./log.ts";

export interface BundleBookParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
}

export interface HeldBundle {
  readonly bundle: ParsedBundle;
  /** As it came. */
  readonly document: string;
  readonly source: BundleSource;
  readonly fingerprint: string;
  /** Milliseconds since the epoch. */
  readonly takenAt: number;
}

export interface TakeOptions {
  readonly source: BundleSource;
  /** A person says so: an older bundle, or one that is not the pinned one, is taken too. */
  readonly isForced?: boolean;
}

export interface Taken {
  readonly outcome: "taken" | "unchanged";
  readonly held: HeldBundle;
}

/** What was judged, and takes the place of what is held. */
interface Offer extends Pick<HeldBundle, "bundle" | "document"> {
  readonly resource: ForeignTrustDomain;
}

type Listener = (trustDomains: readonly TrustDomain[]) => void;

export class BundleBook {
  readonly #parts: BundleBookParts;
  readonly #table: BundleTable;
  readonly #held = new Map<string, HeldBundle>();
  /** By trust domain; undefined until the first rules are in force, and the stored bundles stand alone. */
  #configured: ReadonlyMap<string, ForeignTrustDomain> | undefined;
  readonly #faults = new Map<string, string>();
  readonly #listeners = new Set<Listener>();
  #bundles: ReadonlyMap<string, TrustBundle> = new Map();

  constructor(parts: BundleBookParts) {
    this.#parts = parts;
    this.#table = openBundleTable(parts.store);
    for (const { trustDomain, document, source, takenAt } of this.#table.all()) {
      const bundle = this.#tryParse(trustDomain, document);
      if (bundle === undefined) continue;
      this.#held.set(trustDomain, { bundle, document, source, takenAt, fingerprint: fingerprintBundle(bundle) });
    }
    this.#renew();
  }

  /** By the bare name of the trust domain, in its order. The map is another one after each change, and never changes itself. */
  bundles(): ReadonlyMap<string, TrustBundle> {
    return this.#bundles;
  }

  bundleOf(trustDomain: TrustDomain): TrustBundle | undefined {
    return this.#bundles.get(trustDomain.name);
  }

  held(trustDomain: TrustDomain): HeldBundle | undefined {
    return this.#held.get(trustDomain.name);
  }

  /** Of the rules in force, by name of the trust domain. */
  configured(): readonly ForeignTrustDomain[] {
    return [...(this.#configured?.values() ?? [])];
  }

  /** What is wrong with the first bundle of a trust domain's resource, if anything. */
  faultOf(trustDomain: TrustDomain): string | undefined {
    return this.#faults.get(trustDomain.name);
  }

  /** `listener` is called after bundles were taken or dropped, once for all that changed together, when `bundles()` says so already. Returns what ends that. */
  onChange(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /**
   * The rules in force name these trust domains: first bundles are taken, and those of others are dropped (SPIFFE Federation section 6.3).
   * Never throws: the rules are in force already, and what the store cannot keep is said.
   */
  configure(trustDomains: readonly ForeignTrustDomain[]): void {
    const sorted = [...trustDomains].sort((a, b) => (a.trustDomain.name < b.trustDomain.name ? -1 : 1));
    this.#configured = new Map(sorted.map((resource) => [resource.trustDomain.name, resource]));
    for (const name of new Set([...this.#held.keys(), ...this.#storedNames()]))
      if (!this.#configured.has(name)) this.#drop(name);
    for (const resource of sorted) this.#takeFirst(resource);
  }

  /** What the first bundle over the broker must have: by a person's command, else by the resource. */
  pinOf(trustDomain: TrustDomain): string | undefined {
    return this.#table.pinOf(trustDomain.name) ?? this.#configured?.get(trustDomain.name)?.bundle.fingerprint;
  }

  /** A person has compared it. RiprapError `not_found` for a trust domain that no rule names, `pin_invalid`. */
  pin(trustDomain: TrustDomain, fingerprint: string): void {
    this.#require(trustDomain, "pin a bundle");
    if (!/^(?:sha256:)?[0-9a-f]{64}$/.test(fingerprint)) {
      const remedy = "give the fingerprint that `riprap bundle show` prints there, or the 64 digits of its root";
      throw new RiprapError(
        "pin_invalid",
        `Cannot pin the bundle of ${trustDomain}: that is no fingerprint; ${remedy}`,
      );
    }
    this.#table.pin(trustDomain.name, fingerprint);
    this.#parts.log.info("a person has pinned the bundle of another trust domain", {
      ...{ trustDomain: trustDomain.name, fingerprint },
    });
  }

  #require(trustDomain: TrustDomain, what: string): ForeignTrustDomain {
    const resource = this.#configured?.get(trustDomain.name);
    if (resource !== undefined) return resource;
    const remedy = "apply a TrustDomain resource that names it first (see `riprap bundle list`)";
    throw new RiprapError("not_found", `Cannot ${what} of ${trustDomain}: no rule trusts it; ${remedy}`);
  }

  /** A document that its source has authenticated. RiprapError `not_found`, `bundle_invalid`, `store_unusable`, or the refusal's code. */
  take(trustDomain: TrustDomain, document: string, options: TakeOptions): Taken {
    const resource = this.#require(trustDomain, "hold a bundle");
    const offer = { resource, document, bundle: parseTrustBundle(document, trustDomain) };
    return this.#takeAll([offer], options)[0] as Taken;
  }

  /**
   * All bundles of a map or none of them (Trust Domain and Bundle, appendix B.1), but for those of trust domains that no rule names, for which there is
   * no answer. What is held of others stays. RiprapError `store_unusable`, or the refusal's code.
   */
  takeMap(mapped: readonly MappedBundle[], options: TakeOptions): ReadonlyMap<string, Taken> {
    const offers = mapped.flatMap(({ bundle, document }): Offer[] => {
      const resource = this.#configured?.get(bundle.trustDomain.name);
      return resource === undefined ? [] : [{ resource, bundle, document }];
    });
    try {
      const taken = this.#takeAll(offers, options);
      return new Map(taken.map((one) => [one.held.bundle.trustDomain.name, one]));
    } catch (cause) {
      if (!(cause instanceof RiprapError)) throw cause;
      throw new RiprapError(cause.code, `Cannot take the bundle map, and nothing of it is taken: ${cause.message}`, {
        cause,
      });
    }
  }

  #takeAll(offers: readonly Offer[], { source, isForced = false }: TakeOptions): readonly Taken[] {
    const judged = offers.map((offer) => ({ offer, same: this.#judge(offer, isForced) }));
    const next = judged.filter(({ same }) => same === undefined).map(({ offer }) => offer);
    if (next.length > 0) this.#putAll(next, source);
    return judged.map(({ offer, same }) => ({
      outcome: same === undefined ? "taken" : "unchanged",
      held: this.#held.get(offer.resource.trustDomain.name) as HeldBundle,
    }));
  }

  /** What is held, where the offer says nothing else; undefined: the offer is taken. */
  #judge({ resource, bundle }: Offer, isForced: boolean): HeldBundle | undefined {
    const { trustDomain } = resource;
    const held = this.#held.get(trustDomain.name);
    const decision = decideUpdate({ held: held?.bundle, offered: bundle, pinned: resource.bundle.fingerprint });
    if (decision.outcome === "unchanged") return held;
    if (decision.outcome === "refuse" && !isForced)
      throw new RiprapError(decision.code, `Cannot take the bundle of ${trustDomain}: ${decision.fact}`);
    return undefined;
  }

  #putAll(offers: readonly Offer[], source: BundleSource): void {
    const takenAt = this.#parts.clock.now();
    const trustDomains = offers.map(({ resource }) => resource.trustDomain);
    const digests = offers.map(({ resource }) => digestOf(this.#tryReadFirst(resource)));
    try {
      this.#parts.store.transaction(() => {
        for (const [i, { resource, document }] of offers.entries()) {
          const trustDomain = resource.trustDomain.name;
          this.#table.put({ trustDomain, document, source, firstDigest: digests[i] as string, takenAt });
        }
      });
    } catch (cause) {
      // What is not kept would be gone with the next start, and an older one in its place.
      const [first] = trustDomains;
      const whose = trustDomains.length === 1 ? `the bundle of ${first}` : `${trustDomains.length} bundles`;
      const message = `Cannot hold ${whose}: the node's store does not take it (${describeError(cause)})`;
      throw new RiprapError("store_unusable", message, { cause });
    }
    for (const offer of offers) this.#hold(offer, { source, takenAt });
    this.#changed(trustDomains);
  }

  #hold({ bundle, document }: Offer, { source, takenAt }: Pick<HeldBundle, "source" | "takenAt">): void {
    const { trustDomain, x509, jwt, sequence, ignored } = bundle;
    const fingerprint = fingerprintBundle(bundle);
    this.#held.set(trustDomain.name, { bundle, document, source, takenAt, fingerprint });
    this.#parts.log.info("a bundle of another trust domain was taken", {
      ...{ trustDomain: trustDomain.name, source, sequence, fingerprint },
      ...{ x509: x509.length, jwt: jwt.length, ignored: ignored.length },
    });
  }

  /** A person who writes another first bundle means it; one that is older than what is held is said to be so, once. */
  #takeFirst(resource: ForeignTrustDomain): void {
    const { trustDomain } = resource;
    const document = this.#tryReadFirst(resource);
    if (document === undefined) return;
    try {
      if (this.#table.firstDigestOf(trustDomain.name) === digestOf(document)) return;
      this.#takeOrNote(resource, document);
    } catch (thrown) {
      this.#faults.set(trustDomain.name, describeError(thrown));
      this.#parts.log.warn("the first bundle of a trust domain was not taken", { error: describeError(thrown) });
    }
  }

  /** Refused once, it is not looked at again; what only the store did not take is. */
  #takeOrNote({ trustDomain }: ForeignTrustDomain, document: string): void {
    try {
      this.take(trustDomain, document, { source: "resource" });
    } catch (thrown) {
      const isRefused = thrown instanceof RiprapError && thrown.code !== "store_unusable";
      if (isRefused) this.#table.noteFirst(trustDomain.name, digestOf(document));
      throw thrown;
    }
    this.#table.noteFirst(trustDomain.name, digestOf(document));
  }

  #tryReadFirst(resource: ForeignTrustDomain): string | undefined {
    const { name } = resource.trustDomain;
    try {
      const document = readFirstBundle(resource);
      this.#faults.delete(name);
      return document;
    } catch (thrown) {
      const error = describeError(thrown);
      if (this.#faults.get(name) !== error) this.#parts.log.warn("a first bundle cannot be read", { error });
      this.#faults.set(name, error);
      return undefined;
    }
  }

  #drop(name: string): void {
    this.#faults.delete(name);
    try {
      this.#table.drop(name);
      this.#table.pin(name, undefined);
    } catch (thrown) {
      // Trusted no longer all the same; the next start tries again.
      const error = describeError(thrown);
      this.#parts.log.error("a bundle could not be taken out of the store", { trustDomain: name, error });
    }
    if (!this.#held.delete(name)) return;
    this.#parts.log.info("the bundle of another trust domain was dropped: no rule trusts it any longer", {
      trustDomain: name,
    });
    this.#changed([TrustDomain.parse(name)]);
  }

  #tryParse(name: string, document: string): ParsedBundle | undefined {
    try {
      return parseTrustBundle(document, TrustDomain.parse(name));
    } catch (thrown) {
      const error = describeError(thrown);
      this.#parts.log.error("a stored bundle cannot be read and is not used", { trustDomain: name, error });
      return undefined;
    }
  }

  #storedNames(): readonly string[] {
    try {
      return this.#table.names();
    } catch (thrown) {
      this.#parts.log.error("the stored bundles cannot be listed", { error: describeError(thrown) });
      return [];
    }
  }

  #renew(): void {
    const sorted = [...this.#held].sort(([a], [b]) => (a < b ? -1 : 1));
    this.#bundles = new Map(sorted.map(([name, { bundle }]) => [name, bundle]));
  }

  #changed(trustDomains: readonly TrustDomain[]): void {
    this.#renew();
    for (const listener of this.#listeners) listener(trustDomains);
  }
}

function digestOf(document: string | undefined): string {
  return document === undefined ? "" : hash("sha256", document, "hex");
}
