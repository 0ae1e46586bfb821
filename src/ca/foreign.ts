// The roots of another trust domain as chains are judged by them: what its bundle holds and this CA can verify with. Never joins two bundles.

import type { TrustBundle } from "../trust_bundle.ts";
import { type Certificate, parseCertificate } from "./certificate.ts";
import { keyOfPoint } from "./key.ts";

/** A bundle is a value that never changes: its certificates are read once. */
const READ = new WeakMap<TrustBundle, readonly Certificate[]>();

/** Those of its certificates that may end a path: CAs with a P-256 key that name no other trust domain. */
export function anchorsOf(bundle: TrustBundle): readonly Certificate[] {
  const known = READ.get(bundle);
  if (known !== undefined) return known;
  const anchors = bundle.x509.map(tryRead).filter((root) => root !== undefined && isAnchor(root, bundle));
  READ.set(bundle, anchors as readonly Certificate[]);
  return anchors as readonly Certificate[];
}

function tryRead(bytes: Uint8Array): Certificate | undefined {
  try {
    return parseCertificate(bytes);
  } catch {
    // Of another standard than SPIFFE's, or malformed: no path can end in it.
    return undefined;
  }
}

function isAnchor({ ca, publicKey, uris }: Certificate, { trustDomain }: TrustBundle): boolean {
  const isVerifying = ca && publicKey !== undefined && keyOfPoint(publicKey) !== undefined;
  return isVerifying && uris.every((uri) => uri === trustDomain.id.toString());
}
