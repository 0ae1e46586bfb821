// Which HTTP status each error code of the control API is answered with; a code that is not here is a refusal (422).

export type FailureStatus = 400 | 404 | 409 | 413 | 415 | 422 | 503;

export const ERROR_STATUS: Readonly<Record<string, FailureStatus>> = {
  invalid: 400,
  not_found: 404,
  conflict: 409,
  too_large: 413,
  not_utf8: 415,
  not_ready: 503,
  unavailable: 503,
};
