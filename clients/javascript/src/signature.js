// Signed texts: DSSE in a Sigstore bundle, ECDSA on P-256. docs/spec/signing-v1.md.

import { concat, fromUtf8, hex, utf8 } from "./bytes.js";
import { sha256 } from "./crypto.js";
import { SignatureNotTrusted, TamperedBundle } from "./errors.js";
import { parseOnce } from "./json.js";
import { check, line, list, nothing, oneOf, record } from "./schema.js";

const MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json";
const IN_TOTO = "application/vnd.in-toto+json";
const STATEMENT = "https://in-toto.io/Statement/v1";
const PREDICATE = "https://model_signing/signature/v1.0";
const MAX_BYTES = 2 ** 20;
const base64 = check(
  (v) => typeof v === "string" && v.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(v), "base64",
);
const ENVELOPE = record({
  mediaType: oneOf(MEDIA_TYPE),
  verificationMaterial: record({}, { publicKey: record({}, { hint: line(200) }), tlogEntries: list(nothing, 0, 0) }),
  dsseEnvelope: record({
    payload: base64,
    payloadType: line(200),
    signatures: list(record({ sig: base64 }, { keyid: oneOf("") }), 1, 1),
  }),
});

/** Read a signature file; nothing in it is believed yet. */
export function readEnvelope(bytes, name) {
  try {
    if (bytes.length > MAX_BYTES) throw new Error("too large");
    const bundle = parseOnce(fromUtf8(bytes));
    ENVELOPE(bundle, name);
    const { dsseEnvelope: envelope } = bundle;
    return {
      payload: fromBase64(envelope.payload),
      payloadType: String(envelope.payloadType),
      signature: fromBase64(envelope.signatures[0].sig),
      hint: bundle.verificationMaterial.publicKey?.hint ?? "",
    };
  } catch {
    throw new SignatureNotTrusted(`${name} is not a signature by a key`);
  }
}

/** The one of the signers (PEM texts) that signed an envelope. */
export async function signerOf(envelope, signers, name) {
  const kind = utf8(envelope.payloadType);
  const signed = concat(
    utf8(`DSSEv1 ${kind.length} `), kind, utf8(` ${envelope.payload.length} `), envelope.payload,
  );
  for (const pem of signers) {
    if (envelope.hint && envelope.hint !== hex(sha256(utf8(spelledPem(pem))))) continue;
    const key = await importKey(pem, name);
    const how = { name: "ECDSA", hash: "SHA-256" };
    if (await crypto.subtle.verify(how, key, rawSignature(envelope.signature), signed)) return pem;
  }
  throw new SignatureNotTrusted(`${name} is not signed by one of the trusted signers`);
}

/**
 * Check that a trusted signer signed exactly these files.
 *
 * @param {Map<string, Uint8Array>} files contents by name, without the signature
 */
export async function verifyFiles(bytes, files, signers, name) {
  const envelope = readEnvelope(bytes, `${name}: the signature`);
  const signer = await signerOf(envelope, signers, name);
  const refuse = () => {
    throw new SignatureNotTrusted(`${name}: what was signed is not a statement about files`);
  };
  if (envelope.payloadType !== IN_TOTO) refuse();
  const statement = parseOnce(fromUtf8(envelope.payload));
  if (statement._type !== STATEMENT || statement.predicateType !== PREDICATE) refuse();
  const { resources, serialization } = statement.predicate;
  if (serialization.method !== "files" || statement.subject.length !== 1) refuse();
  const signed = new Map(resources.map((one) => [one.name, one]));
  if (signed.size !== resources.length) refuse();
  for (const one of new Set([...signed.keys(), ...files.keys()])) {
    const [content, resource] = [files.get(one), signed.get(one)];
    if (!content || !resource || resource.algorithm !== "sha256" || resource.digest !== hex(sha256(content))) {
      throw new TamperedBundle(`${name}: ${one} is not what was signed`);
    }
  }
  return signer;
}

/** A public key as PEM text in the one spelling that signers are named by. */
function spelledPem(pem) {
  const body = pem.replace(/-----(BEGIN|END) PUBLIC KEY-----|\s/g, "");
  return `-----BEGIN PUBLIC KEY-----\n${body.match(/.{1,64}/g).join("\n")}\n-----END PUBLIC KEY-----\n`;
}

async function importKey(pem, name) {
  try {
    const body = pem.replace(/-----(BEGIN|END) PUBLIC KEY-----|\s/g, "");
    const how = { name: "ECDSA", namedCurve: "P-256" };
    return await crypto.subtle.importKey("spki", fromBase64(body), how, false, ["verify"]);
  } catch {
    throw new SignatureNotTrusted(`${name}: a signer is not a P-256 public key in PEM`);
  }
}

/** r and s, 32 bytes each, out of DER. Anything odd gives a signature of nobody. */
function rawSignature(der) {
  const raw = new Uint8Array(64);
  let at = 2;
  for (const half of [0, 1]) {
    const size = der[at + 1];
    let number = der.subarray(at + 2, at + 2 + size);
    at += 2 + size;
    while (number.length > 32 && number[0] === 0) number = number.subarray(1);
    if (number.length > 32) return new Uint8Array(64);
    raw.set(number, 32 * half + 32 - number.length);
  }
  return raw;
}

const fromBase64 = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
