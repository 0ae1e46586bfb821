// With what an endpoint's server proves who it is: files of the web's PKI, read again when they change, or an X509-SVID of the daemon's own, renewed.

import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { issueWithNewKeys, type NodeAuthority } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { describeError, RiprapError } from "../../error.ts";
import { toPem, toPemBlock } from "../../pem.ts";
import type { SpiffeId } from "../../spiffe_id.ts";
import { renewalTime } from "../renewal.ts";
import type { ServerCertificate } from "./listener.ts";

/** Chains of the web have five certificates at most. */
const FILE_BYTES_MAX = 65_536;
const LOOK_EVERY_MS = 5_000;
const CLOCK_LOOK_EVERY_MS = 60_000;
/** As much ahead of theirs as others take (src/ca/chain.ts). */
const CLOCK_SKEW_MAX_MS = 60_000;
/** Renewed every half hour, by a process that lives for months. */
const LIFETIME_SECONDS = 3600;

export interface CurrentCertificate extends ServerCertificate {
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
}

export interface CertificateSource {
  /** RiprapError of what is missing or wrong. */
  load(): CurrentCertificate;
  /** Resolves when there may be another one. */
  changed(current: CurrentCertificate, signal: AbortSignal): Promise<void>;
}

export interface FileSourceOptions {
  readonly certificatePath: string;
  readonly keyPath: string;
  readonly clock: Clock;
}

/** RiprapError `endpoint_certificate` from load(): a file that cannot be read, a key that others can read, a pair that does not belong together. */
export function fileCertificate({ certificatePath, keyPath, clock }: FileSourceOptions): CertificateSource {
  const stampOf = () => `${stamp(certificatePath)} ${stamp(keyPath)}`;
  let loaded = "";
  return {
    load() {
      loaded = stampOf();
      const cert = readPem(certificatePath);
      const key = readPem(keyPath);
      if ((statSync(keyPath).mode & 0o007) !== 0)
        throw unusable(keyPath, `everybody may read it; chmod o-rwx ${keyPath}`);
      const leaf = parse(certificatePath, () => new X509Certificate(cert));
      const privateKey = parse(keyPath, () => createPrivateKey(key));
      if (!leaf.checkPrivateKey(privateKey)) throw unusable(keyPath, `it is not the key of ${certificatePath}`);
      return { cert, key, notAfter: Date.parse(leaf.validTo) };
    },
    async changed(_current, signal) {
      while (!signal.aborted && stampOf() === loaded) await clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
    },
  };
}

export interface SvidSourceOptions {
  readonly authority: Pick<NodeAuthority, "issueX509Svids" | "epoch">;
  readonly spiffeId: SpiffeId;
  readonly clock: Clock;
  readonly random: () => number;
}

/** load() throws what NodeAuthority.issueX509Svids throws. */
export function svidCertificate({ authority, spiffeId, clock, random }: SvidSourceOptions): CertificateSource {
  let epoch = authority.epoch;
  return {
    load() {
      epoch = authority.epoch;
      const context = { by: "bundle endpoint" };
      const [svid] = issueWithNewKeys(authority, [{ spiffeId, lifetimeSeconds: LIFETIME_SECONDS, context }]);
      if (svid === undefined) throw new TypeError("an SVID was asked for, and none was given");
      const { chain, privateKey, notAfter } = svid;
      try {
        const key = toPemBlock("PRIVATE KEY", privateKey);
        return { cert: toPem(chain), key, notAfter: notAfter.getTime() };
      } finally {
        privateKey.fill(0);
      }
    },
    async changed({ notAfter }, signal) {
      const from = clock.now();
      const due = renewalTime({ issuedAt: from, notAfter }, random());
      const isGood = () => authority.epoch === epoch && clock.now() < due && clock.now() > from - CLOCK_SKEW_MAX_MS;
      // In steps: a clock that was set forward or back, or an authority that is revoked, leaves an SVID that nobody takes.
      while (!signal.aborted && isGood()) {
        const wait = Math.min(Math.max(due - clock.now(), LOOK_EVERY_MS), CLOCK_LOOK_EVERY_MS);
        await clock.sleep(wait, signal).catch(() => undefined);
      }
    },
  };
}

function stamp(path: string): string {
  const { ino, mtimeMs, size } = statSync(path, { throwIfNoEntry: false }) ?? { ino: 0, mtimeMs: 0, size: 0 };
  return `${ino} ${mtimeMs} ${size}`;
}

function readPem(path: string): string {
  try {
    if (statSync(path).size > FILE_BYTES_MAX) throw unusable(path, `it is larger than ${FILE_BYTES_MAX} bytes`);
    return readFileSync(path, "utf8");
  } catch (thrown) {
    throw thrown instanceof RiprapError ? thrown : unusable(path, describeError(thrown));
  }
}

function parse<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    // Not the cause's words: they may quote the file.
    throw unusable(path, thrown instanceof RiprapError ? thrown.message : "it holds no PEM that can be read");
  }
}

function unusable(path: string, fact: string): RiprapError {
  return new RiprapError("endpoint_certificate", `Cannot serve with ${path}: ${fact}`);
}
