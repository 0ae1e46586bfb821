// The payloads of envelopes: batches of statements, the rounds of anti-entropy, and notices. Writes and reads them; decides nothing.
import {
  type Difference,
  parseDifference,
  parseDigest,
  parseIds,
  type StateDigest,
  writeDifference,
  writeDigest,
  writeIds,
} from "./digest.ts";
import { PAYLOAD_BYTES_MAX } from "./envelope.ts";
import { BATCH_MAX } from "./fleet_state.ts";
import { OctetReader, OctetWriter } from "./octet.ts";
import { parseStatement, STATEMENT_BYTES_MAX, type Statement } from "./statement.ts";

/** What the statements of one message may come to. */
export const BATCH_BYTES_MAX = PAYLOAD_BYTES_MAX - 16;
const PROOF_BYTES_MAX = 2048;

/** Why a message was not taken, told to its author. */
export const NOTICES = ["rolled_back", "stale", "from_future", "busy"] as const;
export type NoticeCode = (typeof NOTICES)[number];

export type FleetMessage =
  /** Broadcast, or the answer to `want`. */
  | { readonly type: "statements"; readonly statements: readonly Statement[] }
  /** "This is what I have": answered by `difference`, or by `same`. */
  | { readonly type: "digest"; readonly digest: StateDigest }
  | { readonly type: "same" }
  | { readonly type: "difference"; readonly difference: Difference }
  | { readonly type: "want"; readonly ids: readonly string[] }
  /** The answer to any question of a revoked node: what revokes it, and what gave its author the right. */
  | { readonly type: "revoked"; readonly statements: readonly Statement[] }
  /** The answer to a message that was refused: `time` by the clock of who refuses, `proof` for one whose count went back. */
  | { readonly type: "notice"; readonly code: NoticeCode; readonly time: number; readonly proof: Uint8Array };

export type FleetMessageType = FleetMessage["type"];

type Payload<T extends FleetMessageType> = Extract<FleetMessage, { type: T }>;

interface Form<T extends FleetMessageType> {
  write(message: Payload<T>): Uint8Array;
  read(bytes: Uint8Array): Payload<T>;
}

const FORMS: { readonly [T in FleetMessageType]: Form<T> } = {
  statements: { write: writeStatements, read: readStatements },
  digest: {
    write: ({ digest }) => writeDigest(digest),
    read: (bytes) => ({ type: "digest", digest: parseDigest(bytes) }),
  },
  same: {
    write: () => new Uint8Array(),
    read(bytes) {
      new OctetReader(bytes).end();
      return { type: "same" };
    },
  },
  difference: {
    write: ({ difference }) => writeDifference(difference),
    read: (bytes) => ({ type: "difference", difference: parseDifference(bytes) }),
  },
  revoked: { write: writeStatements, read: (bytes) => ({ ...readStatements(bytes), type: "revoked" }) },
  want: { write: ({ ids }) => writeIds(ids), read: (bytes) => ({ type: "want", ids: parseIds(bytes) }) },
  notice: {
    write: ({ code, time, proof }) => new OctetWriter().u8(NOTICES.indexOf(code)).u48(time).bytes16(proof).end(),
    read: readNotice,
  },
};

export function writeMessage(message: FleetMessage): Uint8Array {
  const form = FORMS[message.type] as Form<FleetMessageType>;
  return form.write(message);
}

/** The payload of an envelope of this type. Throws RiprapError `octets_malformed`, `statement_malformed`; RangeError for no such type. */
export function parseMessage(type: string, payload: Uint8Array): FleetMessage {
  if (!isMessageType(type)) throw new RangeError(`there is no message of type ${JSON.stringify(type)}`);
  return FORMS[type].read(payload);
}

export function isMessageType(type: string): type is FleetMessageType {
  return Object.hasOwn(FORMS, type);
}

/** Statements in as few messages as hold them. */
export function batchStatements(statements: readonly Statement[]): Payload<"statements">[] {
  const batches: Statement[][] = [];
  let room = 0;
  for (const statement of statements) {
    const bytes = statement.bytes.length + 4;
    const last = batches.at(-1);
    if (last === undefined || bytes > room || last.length >= BATCH_MAX) {
      batches.push([statement]);
      room = BATCH_BYTES_MAX - bytes;
    } else {
      last.push(statement);
      room -= bytes;
    }
  }
  return batches.map((batch) => ({ type: "statements", statements: batch }));
}

function writeStatements({ statements }: { readonly statements: readonly Statement[] }): Uint8Array {
  const writer = new OctetWriter().u16(statements.length);
  for (const { bytes } of statements) writer.bytes32(bytes);
  return writer.end();
}

function readStatements(bytes: Uint8Array): Payload<"statements"> {
  const reader = new OctetReader(bytes);
  const count = reader.count16(BATCH_MAX);
  const statements = Array.from({ length: count }, () => parseStatement(reader.bytes32(STATEMENT_BYTES_MAX)));
  reader.end();
  return { type: "statements", statements };
}

function readNotice(bytes: Uint8Array): Payload<"notice"> {
  const reader = new OctetReader(bytes);
  const index = reader.u8();
  const [time, proof] = [reader.u48(), reader.bytes16(PROOF_BYTES_MAX)];
  reader.end();
  // A reason that a newer riprap has is said as the mildest one: the receiver asks somebody else.
  return { type: "notice", code: NOTICES[index] ?? "busy", time, proof };
}
