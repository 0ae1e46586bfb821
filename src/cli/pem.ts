// Writes DER as PEM (RFC 7468).

export function formatPem(label: string, parts: readonly Uint8Array[]): string {
  return parts
    .map(
      (der) =>
        `-----BEGIN ${label}-----\n${(
          Buffer.from(der)
            .toString("base64")
            .match(/.{1,64}/g) ?? []
        ).join("\n")}\n-----END ${label}-----\n`,
    )
    .join("");
}
