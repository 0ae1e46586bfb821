// The rotations of a node's authorities as a person asks for them. As a program: runs one on a state directory and kills itself by SIGKILL at the step that it is told.

import { Authorities } from "../../src/ca/authorities.ts";
import { ManualClock } from "../manual_clock.ts";
import { mortal } from "./mortal.ts";

export type Rotate = (authorities: Authorities) => Promise<unknown>;

const idOf = (authorities: Authorities, kind: string, phase: string) =>
  authorities.list().authorities.find((one) => one.kind === kind && one.phase === phase)?.id ?? "";

/** Each can be asked for again after it was cut off, as a person would. */
export const ROTATIONS: Readonly<Record<string, Rotate>> = {
  "the rotation of a root": async (authorities) => {
    if (idOf(authorities, "x509", "retired") === "") {
      if (idOf(authorities, "x509", "published") === "") await authorities.prepare("x509");
      await authorities.activate(idOf(authorities, "x509", "published"), { force: true });
    }
    await authorities.advance();
    const old = authorities.list().authorities.find(({ phase, isTainted }) => phase === "retired" && !isTainted);
    if (old !== undefined) await authorities.taint(old.id);
    for (const id of authorities.spentRoots()) await authorities.revoke(id);
  },
  "the renewal of the intermediate": (authorities) => authorities.renewIntermediate(),
  "the rotation of a JWT key": async (authorities) => {
    if (idOf(authorities, "jwt", "retired") === "") {
      if (idOf(authorities, "jwt", "published") === "") await authorities.prepare("jwt");
      await authorities.activate(idOf(authorities, "jwt", "published"), { force: true });
    }
    const old = idOf(authorities, "jwt", "retired");
    if (old !== "") await authorities.revoke(old);
  },
};

if (import.meta.main) {
  const [, , name = "", stateDir = "", dieAt] = process.argv;
  const die = () => {
    process.kill(process.pid, "SIGKILL");
    for (;;);
  };
  const { store, keys } = mortal(stateDir, Number(dieAt), die);
  await ROTATIONS[name]?.(new Authorities({ stateDir, clock: new ManualClock(), store, keys }));
}
