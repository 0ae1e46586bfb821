// Reads a certificate a second time, with the runtime's own X.509 code. What two readers understand differently is not safe to rely on.
import { X509Certificate } from "node:crypto";
import { type Certificate, sameBytes } from "./certificate.ts";

/** Whether serial, validity, CA flag, URIs and key are the same for both. Only for certificates whose signature was verified: it is native code. */
export function readsTheSame(certificate: Certificate): boolean {
  try {
    const other = new X509Certificate(certificate.bytes);
    return (
      other.serialNumber.toLowerCase() === certificate.serial &&
      other.validFromDate.getTime() === certificate.notBefore &&
      other.validToDate.getTime() === certificate.notAfter &&
      other.ca === certificate.ca &&
      sameBytes(other.raw, certificate.bytes) &&
      urisOf(other).join() === certificate.uris.join() &&
      sameBytes(other.publicKey.export({ format: "der", type: "spki" }), certificate.spki)
    );
  } catch {
    // It refuses what we accepted: that is a difference too.
    return false;
  }
}

function urisOf(certificate: X509Certificate): string[] {
  const names = certificate.subjectAltName?.split(", ") ?? [];
  return names.filter((name) => name.startsWith("URI:")).map((name) => name.slice("URI:".length));
}
