// kind: NodeGroup. Nodes of the fleet that rules are meant for together, beside those that were enrolled into the group.
import { FLEET_NAME } from "../fleet.ts";
import type { NodeGroup } from "../resource.ts";
import type { Head } from "./document.ts";
import type { Field, FieldMap } from "./field.ts";
import { quote } from "./field.ts";

const NODES_MAX = 4096;

export function checkNodeGroup(spec: FieldMap, head: Head): NodeGroup | undefined {
  spec.refuseUnknown(["nodes"]);
  const field = spec.required("nodes");
  const items = field?.list();
  if (field === undefined || items === undefined) return undefined;
  if (items.length === 0 || items.length > NODES_MAX) {
    const message = items.length === 0 ? "a group without a node is none" : `more than ${NODES_MAX} nodes`;
    return field.error({ code: "field_invalid", message, remedy: "name nodes, or a pattern like edge-* for many" });
  }
  const nodes = items.map(checkPattern).filter((pattern) => pattern !== undefined);
  if (nodes.length !== items.length) return undefined;
  if (!FLEET_NAME.test(head.name)) {
    const message = `${quote(head.name)} cannot be the name of a group of nodes`;
    return field.error({ code: "name_invalid", message, remedy: "name it with a-z, 0-9 and '-', like edge-europe" });
  }
  return { kind: "NodeGroup", ...head, nodes };
}

/** `edge-3`, `edge-*`, `*`. */
function checkPattern(field: Field): string | undefined {
  const text = field.string();
  if (text === undefined) return undefined;
  const isPattern = text.endsWith("*") && /^[a-z0-9-]*$/.test(text.slice(0, -1));
  if (isPattern || FLEET_NAME.test(text)) return text;
  const message = `${quote(text)} is no name of a node`;
  return field.error({ code: "field_invalid", message, remedy: "write a name like edge-3, or a pattern like edge-*" });
}
