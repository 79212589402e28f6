// A grant: who may open an issued file, from when until when. docs/spec/grants-v1.md.

import { concat, fromHex, hex, utf8 } from "./bytes.js";
import { sha256 } from "./crypto.js";
import { BundleError, Expired, MalformedBundle, NotYetValid, SignatureNotTrusted, WrongKey } from "./errors.js";
import { parseCanonical } from "./json.js";
import { and, check, hex as hexDigits, line, matching, oneOf, orNull, record, text, whole } from "./schema.js";
import { readEnvelope, signerOf, verifyFiles } from "./signature.js";

const PAYLOAD_TYPE = "application/vnd.mlguard.grant+json";
const INFO = utf8("mlguard/grant/v1\0");

/**
 * What opens an issued file, if this identity may open it today.
 *
 * Lists of revoked grants are not looked at by this reader.
 *
 * @param {object} given
 * @param {string[]} [given.signers] PEM texts of whom to trust; the grant's own signer if
 *   there are none
 * @param {Uint8Array} [given.grant] a newer grant than the one in the file
 * @param {string} [given.today] YYYY-MM-DD, in UTC; this machine's if left out
 */
export async function openGrant({ manifest, manifestBytes, members, name }, identity, given = {}) {
  const data = given.grant ?? members["grant.json"]?.content;
  if (!manifest.issued || !data) {
    throw new BundleError(`${name} was not issued to a customer: it is the owner's own file`);
  }
  const what = `the grant of ${name}`;
  const envelope = readEnvelope(data, what);
  const grant = parse(envelope.payload, what);
  const trusted = given.signers?.length ? given.signers : [grant.signer];
  const signer = await signerOf(envelope, trusted, what);
  if (signer.trim() !== grant.signer.trim() || envelope.payloadType !== PAYLOAD_TYPE) {
    throw new SignatureNotTrusted(`${what} was not signed by the key that it names`);
  }
  const same = grant.bundle_sha256 === hex(sha256(manifestBytes))
    && grant.protection_id === manifest.protection_id && grant.key_id === manifest.key_id;
  if (!same) throw new WrongKey(`${what} is for another file`);
  if (given.signers?.length) await verifyWhole(members, given.signers, name);
  checkDay(grant, given.today ?? new Date().toISOString().slice(0, 10), name);
  const { wrapped, ...bound } = grant;
  const opened = await identity.unwrap(fromHex(wrapped), concat(INFO, utf8(spelled(bound))));
  if (opened === null) {
    throw new WrongKey(`${name} was issued to ${grant.licensee}, and this identity does not open it`);
  }
  return secrets(opened, grant, name);
}

async function verifyWhole(members, signers, name) {
  const { "model.sig": signature, ...rest } = members;
  if (!signature) throw new SignatureNotTrusted(`${name} is not signed`);
  const files = new Map(Object.values(rest).map((member) => [member.name, member.content]));
  await verifyFiles(signature.content, files, signers, name);
}

const day = check((v) => {
  const found = typeof v === "string" && /^\d{4}-\d\d-\d\d$/.test(v) && new Date(`${v}T00:00:00Z`);
  return found && !Number.isNaN(found.getTime()) && found.toISOString().startsWith(v);
}, "a day as YYYY-MM-DD");
const GRANT = and(
  record({
    format: oneOf("mlguard.grant/1"),
    grant_id: hexDigits(32), bundle_sha256: hexDigits(64), protection_id: hexDigits(32), key_id: hexDigits(16),
    signer: text(1, 4096), recipient: line(4000), licensee: line(200), terms: text(0, 64000),
    issued: matching(/^\d{4}-\d\d-\d\dT[0-2]\d:[0-5]\d:[0-5]\dZ$/, 20),
    not_before: orNull(day), not_after: orNull(day),
    revocations: whole(0, Number.MAX_SAFE_INTEGER),
    wrapped: matching(/^([0-9a-f]{2})*$/, 2 ** 19),
  }),
  [({ not_before: first, not_after: last }) => !first || !last || first <= last, "an end after the beginning"],
);

function parse(payload, what) {
  try {
    const grant = parseCanonical(payload);
    GRANT(grant, what);
    return grant;
  } catch (problem) {
    throw new SignatureNotTrusted(`${what} is not a grant: ${problem.message}`);
  }
}

function checkDay({ not_before: first, not_after: last }, today, name) {
  if (first && today < first) {
    throw new NotYetValid(`${name} may be used from ${first} on, today is ${today} (UTC)`);
  }
  if (last && today > last) {
    throw new Expired(`${name} could be used until ${last}, today is ${today} (UTC)`);
  }
}

function secrets(bytes, grant, name) {
  try {
    const { content_key: key, subkeys } = parseCanonical(bytes);
    return {
      keyId: grant.key_id,
      protectionId: fromHex(grant.protection_id),
      contentKey: fromHex(key),
      derive(use) {
        if (!Object.hasOwn(subkeys, use)) throw new WrongKey(`the grant does not cover ${use}`);
        return fromHex(subkeys[use]);
      },
    };
  } catch (problem) {
    if (problem instanceof WrongKey) throw problem;
    throw new MalformedBundle(`${name} does not hold the keys of a bundle`);
  }
}

/** Canonical JSON of a grant's fields: texts, whole numbers and null. */
function spelled(fields) {
  const sorted = Object.keys(fields).sort().map((key) => `${JSON.stringify(key)}:${JSON.stringify(fields[key])}`);
  return `{${sorted.join(",")}}`;
}

