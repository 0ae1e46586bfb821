// kind: Service. A name for addresses and ports, and how one speaks to them.
import { AddressPrefix } from "../address.ts";
import { RiprapError } from "../error.ts";
import type { PortRange } from "../port_range.ts";
import type { Service, ServiceAddress } from "../resource.ts";
import { SpiffeId } from "../spiffe_id.ts";
import { parseDnsName } from "./dns_name.ts";
import type { Head } from "./document.ts";
import type { Field, FieldMap } from "./field.ts";
import { quote, readTexts } from "./field.ts";
import { checkPorts } from "./port.ts";

export const TLS_CHOICES = ["mutual", "passthrough", "plain"] as const;
const ADDRESSES_MAX = 65_536;

export function checkService(spec: FieldMap, head: Head): Service | undefined {
  spec.refuseUnknown(["labels", "addresses", "external", "tls"]);
  const labels = readTexts(spec.optional("labels"));
  const external = spec.optional("external")?.boolean() ?? false;
  // An external service has no SVID to show; its own TLS is the safest that is left.
  const tls = spec.optional("tls")?.oneOf(TLS_CHOICES) ?? (external ? "passthrough" : "mutual");
  const field = spec.required("addresses");
  const items = field?.list();
  if (field === undefined || items === undefined) return undefined;
  if (items.length === 0 || items.length > ADDRESSES_MAX) {
    const message =
      items.length === 0 ? "a service without an address can never be reached" : `more than ${ADDRESSES_MAX} addresses`;
    return field.error({ code: "field_invalid", message, remedy: "name addresses, or prefixes for many of them" });
  }
  const addresses = items.map(checkServiceAddress);
  const good = addresses.filter((address) => address !== undefined);
  if (good.length !== addresses.length) return undefined;
  return { kind: "Service", ...head, labels, addresses: good, external, tls };
}

function checkServiceAddress(field: Field): ServiceAddress | undefined {
  const map = field.map(["address", "workload", "ports"]);
  const portsField = map?.optional("ports");
  const ports = portsField === undefined ? [] : checkPorts(portsField);
  if (map?.has("workload") === true) return checkWorkloadAddress(map, ports);
  const address = map?.required("address");
  const text = address?.string();
  if (address === undefined || text === undefined || ports === undefined) return undefined;
  const dnsName = parseDnsName(text);
  if (dnsName !== undefined) return { target: { dnsName }, ports };
  const prefix = checkPrefix(address, "or a DNS name like db.example.org");
  return prefix === undefined ? undefined : { target: { prefix }, ports };
}

/** Wherever in the fleet a workload of this ID runs. */
function checkWorkloadAddress(map: FieldMap, ports: readonly PortRange[] | undefined): ServiceAddress | undefined {
  const field = map.required("workload");
  const text = field?.string();
  if (field === undefined || text === undefined || ports === undefined) return undefined;
  if (map.has("address")) {
    const message = "an entry names a workload or an address";
    return field.error({ code: "field_invalid", message, remedy: "make two entries of it" });
  }
  const id = SpiffeId.tryParse(text.startsWith("spiffe:") ? text : `${field.trustDomain.id}/${text}`);
  if (id !== undefined && id.path !== "" && id.isMemberOf(field.trustDomain))
    return { target: { workload: id }, ports };
  const message = `${quote(text)} is no workload of the trust domain ${field.trustDomain}`;
  return field.error({ code: "id_invalid", message, remedy: "write an ID like team/agent, or the whole spiffe:// ID" });
}

/** An address or prefix; `orElse` ends the remedy. */
export function checkPrefix(field: Field, orElse: string): AddressPrefix | undefined {
  const text = field.string();
  if (text === undefined) return undefined;
  try {
    return AddressPrefix.parse(text);
  } catch (error) {
    if (!(error instanceof RiprapError)) throw error;
    const looksLikeName = /[g-z]/i.test(text) && !text.includes(":");
    const message = looksLikeName ? `${quote(text)} is neither an address nor a name` : error.message;
    return field.error({
      code: "address_invalid",
      message,
      remedy: `write an address, a prefix like 10.0.0.0/8, ${orElse}`,
    });
  }
}
