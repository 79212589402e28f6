// The primitives, from WebCrypto and the noble libraries; nothing is made here.

import { hkdf as expandExtract, expand } from "@noble/hashes/hkdf.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha1 } from "@noble/hashes/legacy.js";
import { sha256, sha512 } from "@noble/hashes/sha2.js";
import { shake256 } from "@noble/hashes/sha3.js";

export { sha256 };

export const hkdf256 = (secret, salt, info, size) =>
  expandExtract(sha256, secret, salt, info, size);
export const hkdf512 = (secret, salt, info, size) =>
  expandExtract(sha512, secret, salt, info, size);
export const expand512 = (key, info, size) => expand(sha512, key, info, size);
export const hmac256 = (key, message) => hmac(sha256, key, message);
export const hmacSha1 = (key, message) => hmac(sha1, key, message);
export const shake = (message, size) => shake256(message, { dkLen: size });

/** AES-256-GCM; null where the tag does not fit. */
export async function openAesGcm(key, nonce, sealed, associated) {
  const secret = await crypto.subtle.importKey("raw", key, "AES-GCM", false, ["decrypt"]);
  const how = { name: "AES-GCM", iv: nonce, additionalData: associated };
  try {
    return new Uint8Array(await crypto.subtle.decrypt(how, secret, sealed));
  } catch {
    return null;
  }
}
