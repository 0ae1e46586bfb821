// The join tokens of an issuing node and its join secret: records in SQLite, the secret in the node's key store.

import { randomBytes } from "node:crypto";
import type { KeyStore } from "../../ca.ts";
import { JOIN_SECRET_BYTES, type JoinSecret, openJoinSecret, type TokenRecord } from "../../federation/token.ts";
import type { Store } from "../../store.ts";

const SECRET_NAME = "join";
const MIGRATIONS = [
  "CREATE TABLE fleet_token (id TEXT PRIMARY KEY, expires_at INTEGER NOT NULL, record TEXT NOT NULL) STRICT;",
];
/** That have not ended. Tokens are made by people; more are a script that went wrong. */
export const TOKENS_MAX = 4096;
/** A token is listed for a week after its end, when no more have ended since than there may be: long enough to see who came with it. */
const KEEP_MS = 7 * 24 * 3600 * 1000;

export interface TokenTable {
  /** Made at first use. */
  readonly secret: JoinSecret;
  get(id: string): TokenRecord | undefined;
  /** Committed when it returns. */
  put(record: TokenRecord): void;
  /** By their end. */
  list(): readonly TokenRecord[];
  /** How many have not ended. Those that have are forgotten in their time, the first first. */
  countLive(now: number): number;
}

export function openTokenTable(store: Store, keys: KeyStore): TokenTable {
  store.migrate("fleet_token", MIGRATIONS);
  const get = store.prepare<{ record: string }>("SELECT record FROM fleet_token WHERE id = ?");
  const put = store.prepare(
    "INSERT INTO fleet_token VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET expires_at = ?2, record = ?3",
  );
  const list = store.prepare<{ record: string }>("SELECT record FROM fleet_token ORDER BY expires_at");
  const live = store.prepare<{ count: number }>("SELECT count(*) AS count FROM fleet_token WHERE expires_at >= ?");
  const forget = store.prepare(
    `DELETE FROM fleet_token WHERE expires_at < ?1 OR id IN (
       SELECT id FROM fleet_token WHERE expires_at < ?2 ORDER BY expires_at DESC LIMIT -1 OFFSET ${TOKENS_MAX})`,
  );
  const parse = ({ record }: { record: string }) => JSON.parse(record) as TokenRecord;
  let secret: JoinSecret | undefined;
  return {
    get secret() {
      secret ??= openSecret(keys);
      return secret;
    },
    get(id) {
      const row = get.get(id);
      return row === undefined ? undefined : parse(row);
    },
    put: (record) => void put.run(record.id, record.expiresAt, JSON.stringify(record)),
    list: () => list.all().map(parse),
    countLive(now) {
      forget.run(now - KEEP_MS, now);
      return live.get(now)?.count ?? 0;
    },
  };
}

function openSecret(keys: KeyStore): JoinSecret {
  if (!keys.has(SECRET_NAME)) {
    const fresh = randomBytes(JOIN_SECRET_BYTES);
    keys.sealSecret(SECRET_NAME, fresh);
    fresh.fill(0);
  }
  const master = keys.openSecret(SECRET_NAME);
  try {
    return openJoinSecret(master);
  } finally {
    master.fill(0);
  }
}
