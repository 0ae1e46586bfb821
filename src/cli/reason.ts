// The kernel's reasons (enum riprap_reason) as a person reads them in a flow; JSON keeps the words.

const SENTENCES: Readonly<Record<string, string>> = {
  none: "",
  rule: "the rule refuses it",
  no_rule: "no rule allows it",
  no_policy: "no policy selects it",
  no_identity: "the process has no identity",
  unknown_process: "the process could not be attested in time",
  peer_id: "the peer has a SPIFFE ID that the rule does not allow",
  peer_chain: "the peer's certificates were refused",
  peer_plaintext: "the peer spoke plaintext",
  tls_alert: "TLS ended with an alert",
  tcp: "TCP failed",
  timeout: "the handshake took too long",
  withdrawn: "the identity was withdrawn",
  revoked: "the peer was revoked",
  draining: "the module is draining",
  key_update: "the peer changed its key, which this kernel's kTLS cannot follow",
  truncated: "the peer ended it without close_notify",
  no_ktls: "this kernel has no kTLS",
  foreign_socket: "the socket came to this process from another",
  no_memory: "there was no memory",
  not_tls: "the rule passes TLS through, and the program sent plaintext",
  record: "a record did not decrypt",
  abandoned: "the program closed it before the handshake ended",
  crowded: "too many handshakes were under way, and this was the oldest",
};

/** Empty when there is nothing to say: an open or closed flow went by its rule. */
export function describeReason(reason: string, state: string): string {
  if (reason === "rule" && state !== "denied") return "";
  return SENTENCES[reason] ?? reason;
}
