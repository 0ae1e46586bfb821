// What `riprap doctor` says of the node beside its kernel: configuration, clock, trust domain, daemon.

import { systemClock } from "../clock.ts";
import type { DaemonConfig } from "../daemon/config.ts";
import type { StatusView } from "../daemon/control/port.ts";
import type { Finding } from "../daemon/kernel/check.ts";
import { describeError, RiprapError } from "../error.ts";
import { asOwner } from "./authority.ts";
import { controlClient } from "./client.ts";
import type { Invocation } from "./invocation.ts";
import { configOf } from "./setting.ts";

/** No riprap was built before this; a clock that is earlier was never set. */
const EARLIEST = Date.UTC(2025, 0, 1);

export async function checkNode(invocation: Invocation): Promise<readonly Finding[]> {
  let config: DaemonConfig;
  try {
    config = configOf(invocation);
  } catch (thrown) {
    return [
      {
        check: "configuration",
        level: "fail",
        fact: describeError(thrown),
        remedy: "mend it; every key is in riprap.yaml of the systemd folder",
      },
    ];
  }
  return [
    checkClock(Date.now()),
    await asOwner(config.stateDir, () => checkAuthority(config.stateDir)),
    ...(await asOwner(config.stateDir, () => checkSeal(config.stateDir))),
    ...(await asOwner(config.stateDir, () => checkDatabase(config.stateDir))),
    await checkDaemon(config.controlSocket),
  ];
}

export function checkClock(now: number): Finding {
  if (now >= EARLIEST) return { check: "clock", level: "ok", fact: new Date(now).toISOString() };
  const fact = `the clock says ${new Date(now).toISOString()}, so every certificate is not yet valid`;
  return {
    check: "clock",
    level: "fail",
    fact,
    remedy: "set it, and keep it set (systemd-timesyncd, chrony, a clock with a battery)",
  };
}

async function checkAuthority(stateDir: string): Promise<Finding> {
  const check = "trust domain";
  try {
    const [{ openAuthority }, { openStore }] = await Promise.all([import("../ca.ts"), import("../store.ts")]);
    // A store of its own: a check changes nothing.
    const store = openStore(":memory:");
    const authority = openAuthority({ stateDir, clock: systemClock, store });
    const { trustDomain, nodeName, issuer, warnings } = authority.info();
    authority.close();
    store.close();
    const fact = `node ${nodeName} of ${trustDomain}, until ${issuer.notAfter.toISOString()}`;
    return warnings.length === 0
      ? { check, level: "ok", fact }
      : { check, level: "warn", fact, remedy: warnings.join(" ") };
  } catch (thrown) {
    if (thrown instanceof RiprapError && thrown.code === "ca_not_initialised") {
      const remedy = 'run "riprap init DOMAIN" on a first node, or "riprap enrol request" on a further one';
      return { check, level: "warn", fact: `${stateDir} has none yet`, remedy };
    }
    return { check, level: "fail", fact: describeError(thrown) };
  }
}

/** Nothing where keys lie open: the trust domain's own finding warns of that. */
async function checkSeal(stateDir: string): Promise<readonly Finding[]> {
  const check = "key custody";
  try {
    const { nodeCustody, openNodeKeys } = await import("../ca.ts");
    const { custody } = nodeCustody(stateDir);
    if (custody === "file") return [];
    openNodeKeys(stateDir).hold()();
    return [{ check, level: "ok", fact: `every key is sealed by ${custody}, and the seal opens` }];
  } catch (thrown) {
    // What there is no trust domain for has no seal either.
    if (thrown instanceof RiprapError && thrown.code === "ca_not_initialised") return [];
    return [{ check, level: "fail", fact: describeError(thrown) }];
  }
}

/** Nothing where there is no trust domain yet: the next start makes the database. */
async function checkDatabase(stateDir: string): Promise<readonly Finding[]> {
  const check = "database";
  try {
    const { checkNodeStore, isSetUp } = await import("../ca.ts");
    if (!isSetUp(stateDir)) return [];
    checkNodeStore(stateDir);
    return [{ check, level: "ok", fact: "state.db can be read from its beginning to its end" }];
  } catch (thrown) {
    return [{ check, level: "fail", fact: describeError(thrown) }];
  }
}

async function checkDaemon(socket: string): Promise<Finding> {
  const check = "daemon";
  try {
    const { plane, ready, version, planeReason } = await controlClient(socket).get<StatusView>("/v1/status");
    if (plane === "kernel" && ready) return { check, level: "ok", fact: `riprap ${version} runs and is ready` };
    const fact =
      plane === "kernel"
        ? "it runs and is not ready"
        : `it runs in the identity plane and enforces nothing (${planeReason ?? "no reason given"})`;
    return { check, level: "warn", fact, remedy: 'see "riprap status"' };
  } catch (thrown) {
    if (thrown instanceof RiprapError && thrown.code === "unreachable") {
      return {
        check,
        level: "warn",
        fact: `none at ${socket}`,
        remedy: 'start it with "systemctl start riprap" or "riprap run"',
      };
    }
    return { check, level: "warn", fact: describeError(thrown) };
  }
}
