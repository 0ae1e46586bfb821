// PEM (RFC 7468) in memory: blocks written as OpenSSL does, and certificates found wherever they stand in a text. Judges nothing.

const CERTIFICATE = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g;

export function toPemBlock(label: string, bytes: Uint8Array): string {
  const lines = Buffer.from(bytes)
    .toString("base64")
    .replace(/.{64}(?=.)/g, "$&\n");
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

/** One certificate after another; empty for none. */
export function toPem(certificates: readonly Uint8Array[]): string {
  return certificates.map((certificate) => toPemBlock("CERTIFICATE", certificate)).join("");
}

/** The certificates of a text, as DER; whatever else is in it is passed over. */
export function certificatesInPem(text: string): readonly Uint8Array[] {
  return [...text.matchAll(CERTIFICATE)].map(([, base64 = ""]) => new Uint8Array(Buffer.from(base64, "base64")));
}
