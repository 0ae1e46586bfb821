// How a node proves to a NATS server that it may connect, read from a credentials file or an nkey seed. Says nothing to other nodes; knows no connection.

export type NatsProof =
  | { readonly kind: "nkey"; readonly seed: Uint8Array }
  | { readonly kind: "credentials"; readonly text: Uint8Array };

const SEED = /SU[A-Z2-7]{56}/;

/** A credentials file has a JWT and a seed between lines of hyphens; an nkey file has the seed alone. Undefined for what is neither. */
export function readNatsProof(bytes: Uint8Array): NatsProof | undefined {
  const text = Buffer.from(bytes).toString("latin1");
  const [seed] = SEED.exec(text) ?? [];
  if (seed === undefined) return undefined;
  if (text.includes("-----BEGIN NATS USER JWT-----")) return { kind: "credentials", text: bytes };
  return { kind: "nkey", seed: new TextEncoder().encode(seed) };
}
