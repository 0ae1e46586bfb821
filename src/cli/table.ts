// The table of commands, in the order of the help. Everything that knows of a command knows it from here.

import { AUTHORITY_COMMANDS } from "./command/authority.ts";
import { AUTHORITY_LIFE_COMMANDS } from "./command/authority_life.ts";
import { AUTHORITY_UPSTREAM_COMMANDS } from "./command/authority_upstream.ts";
import { BUNDLE_COMMANDS } from "./command/bundle.ts";
import { CUSTODY_COMMANDS } from "./command/custody.ts";
import { ENROL_COMMANDS } from "./command/enrol.ts";
import { FLEET_COMMANDS } from "./command/fleet.ts";
import { JOIN_COMMANDS } from "./command/join.ts";
import { KERNEL_COMMANDS } from "./command/kernel.ts";
import { NODE_COMMANDS } from "./command/node.ts";
import { REBUILD_COMMANDS } from "./command/rebuild.ts";
import { REVOKE_COMMANDS } from "./command/revoke.ts";
import { ROOT_COMMANDS } from "./command/root.ts";
import { RULE_COMMANDS } from "./command/rule.ts";
import { SEE_COMMANDS } from "./command/see.ts";
import { selfCommands } from "./command/self.ts";
import { SVID_COMMANDS } from "./command/svid.ts";
import type { Command } from "./command.ts";

export const COMMANDS: readonly Command[] = [
  ...AUTHORITY_COMMANDS,
  ...CUSTODY_COMMANDS,
  ...REBUILD_COMMANDS,
  ...SVID_COMMANDS,
  ...BUNDLE_COMMANDS,
  ...ENROL_COMMANDS,
  ...JOIN_COMMANDS,
  ...FLEET_COMMANDS,
  ...NODE_COMMANDS,
  ...RULE_COMMANDS,
  ...SEE_COMMANDS,
  ...AUTHORITY_LIFE_COMMANDS,
  ...AUTHORITY_UPSTREAM_COMMANDS,
  ...REVOKE_COMMANDS,
  ...ROOT_COMMANDS,
  ...KERNEL_COMMANDS,
  ...selfCommands(() => COMMANDS),
];
