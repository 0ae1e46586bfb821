// The types of the fleet's core, in one place to find them by. What works on them is pure and lies in federation/, a file for each question.
export type {
  EndpointBody,
  IssuerBody,
  NodeBody,
  OperatorBody,
  PresenceBody,
  RevocationBody,
} from "./federation/body.ts";
export type { Signer } from "./federation/curve.ts";
export type { Difference, StateDigest } from "./federation/digest.ts";
export type { Envelope } from "./federation/envelope.ts";
export type {
  ApplyOutcome,
  Change,
  Conflict,
  FleetState,
  FleetStateOptions,
  StatementRefusalCode,
  StatementStore,
} from "./federation/fleet_state.ts";
export type { AuthorStanding, Gate, GateAnswer, GateRefusalCode } from "./federation/gate.ts";
export type { FleetMessage, NoticeCode } from "./federation/message.ts";
export type { IssuedPath, MayIssue, MayIssueCode, Revoked } from "./federation/roster.ts";
export type { Statement, StatementDraft, StatementKind } from "./federation/statement.ts";
export type { EpochStore, Voice } from "./federation/voice.ts";
