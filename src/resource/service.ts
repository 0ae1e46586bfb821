// kind: Service. A name for addresses and ports, and how one speaks to them.
import { AddressPrefix } from "../address.ts";
import { RiprapError } from "../error.ts";
import type { Service, ServiceAddress } from "../resource.ts";
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
  const map = field.map(["address", "ports"]);
  const address = map?.required("address");
  const text = address?.string();
  const portsField = map?.optional("ports");
  const ports = portsField === undefined ? [] : checkPorts(portsField);
  if (address === undefined || text === undefined || ports === undefined) return undefined;
  const dnsName = parseDnsName(text);
  if (dnsName !== undefined) return { target: { dnsName }, ports };
  const prefix = checkPrefix(address, "or a DNS name like db.example.org");
  return prefix === undefined ? undefined : { target: { prefix }, ports };
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
