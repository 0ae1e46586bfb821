// One YAML document to one resource: apiVersion, kind and metadata are checked here, the spec by the file of its kind.
import type { Resource, Source } from "../resource.ts";
import { toPlain, type YamlDocument } from "../yaml.ts";
import { checkAccessPolicy } from "./access_policy.ts";
import { type CheckContext, Field, type FieldMap, quote, readTexts, suggest } from "./field.ts";
import { checkNodeGroup } from "./node_group.ts";
import { checkService } from "./service.ts";
import { checkTrustDomain } from "./trust_domain.ts";
import { checkWorkloadIdentity } from "./workload_identity.ts";

export const API_VERSION = "riprap.io/v1";
const RIPTIDES_API_VERSION = "core.riptides.io/v1alpha1";

/** What every kind gets from its document. */
export interface Head {
  readonly name: string;
  readonly source: Source;
  readonly text: string;
  readonly document: unknown;
}

type SpecCheck = (spec: FieldMap, head: Head) => Resource | undefined;

const KINDS: Readonly<Record<string, { readonly check: SpecCheck; readonly apiVersions: readonly string[] }>> = {
  WorkloadIdentity: { check: checkWorkloadIdentity, apiVersions: [API_VERSION, RIPTIDES_API_VERSION] },
  Service: { check: checkService, apiVersions: [API_VERSION] },
  AccessPolicy: { check: checkAccessPolicy, apiVersions: [API_VERSION] },
  TrustDomain: { check: checkTrustDomain, apiVersions: [API_VERSION] },
  NodeGroup: { check: checkNodeGroup, apiVersions: [API_VERSION] },
};

const KINDS_TO_COME = ["PostureBaseline", "CredentialSource", "CredentialBinding", "OAuthProvider"];

const NAME_MAX = 253;

/** The resource, or undefined after its problems were noted. */
export function checkDocument(document: YamlDocument, context: CheckContext): Resource | undefined {
  const field = new Field(document.root, "", context);
  const top = field.map(["apiVersion", "kind", "metadata", "spec"]);
  if (top === undefined) return undefined;
  const kind = checkKind(top);
  const name = checkMetadata(top, kind);
  const spec = top.required("spec")?.map();
  if (kind === undefined || spec === undefined) return undefined;
  const head = { name: name ?? "", source: field.source, text: document.text, document: toPlain(document.root) };
  const resource = kind.check(spec, head);
  return name === undefined ? undefined : resource;
}

function checkKind(top: FieldMap): (typeof KINDS)[string] | undefined {
  const field = top.required("kind");
  const name = field?.string();
  const version = top.required("apiVersion");
  const versionText = version?.string();
  if (field === undefined || name === undefined) return undefined;
  if (KINDS_TO_COME.includes(name)) {
    const message = `kind ${name} is not supported by this version`;
    return field.error({ code: "kind_unsupported", message, remedy: "remove the document" });
  }
  const kind = Object.hasOwn(KINDS, name) ? KINDS[name] : undefined;
  if (kind === undefined) {
    const known = Object.keys(KINDS);
    const remedy = suggest(name, known) ?? `known kinds: ${known.join(", ")}`;
    return field.error({ code: "kind_unknown", message: `unknown kind ${quote(name)}`, remedy });
  }
  if (version === undefined || versionText === undefined) return kind;
  if (!kind.apiVersions.includes(versionText)) {
    const message = `apiVersion ${quote(versionText)} is not known for kind ${name}`;
    version.error({ code: "api_version_unknown", message, remedy: `write ${kind.apiVersions.join(" or ")}` });
  }
  return kind;
}

function checkMetadata(top: FieldMap, kind: (typeof KINDS)[string] | undefined): string | undefined {
  const takesNamespace = kind?.apiVersions.includes(RIPTIDES_API_VERSION) === true;
  const known = ["name", "labels", "annotations", ...(takesNamespace ? ["namespace"] : [])];
  const metadata = top.required("metadata")?.map(known);
  if (metadata === undefined) return undefined;
  for (const name of ["labels", "annotations"]) readTexts(metadata.optional(name));
  metadata.optional("namespace")?.string();
  const field = metadata.required("name");
  const name = field?.string();
  if (field === undefined || name === undefined) return undefined;
  if (name.length <= NAME_MAX && /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(name)) return name;
  const message = `name ${quote(name)} is not made of a-z, 0-9, "-" and "." (at most ${NAME_MAX}, ends with a letter or digit)`;
  return field.error({ code: "name_invalid", message, remedy: "choose a name like weather-agent" });
}
