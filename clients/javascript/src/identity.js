// A customer's identity, which opens what was wrapped for its recipient.
// docs/spec/keystore-v2.md, section 3.

import { Aes256Gcm, CipherSuite, HkdfSha256 } from "@hpke/core";
import { DhkemX25519HkdfSha256 } from "@hpke/dhkem-x25519";

import { utf8 } from "./bytes.js";
import { hkdf512 } from "./crypto.js";
import { IdentityError, WrongKey } from "./errors.js";
import { fromText } from "./keys.js";

const TEXT = "MLGUARD-IDENTITY-1-";
const HYBRID = "MLGUARD-IDENTITY-2-";
const ENC_BYTES = 32;

export class Identity {
  #seed;

  /** @param {Uint8Array} seed 32 bytes */
  constructor(seed) {
    this.#seed = Uint8Array.from(seed);
  }

  /** Read the text of an identity file; lines with # are comments. */
  static parse(text) {
    const plain = text.split(/\r?\n/).filter((line) => !line.trim().startsWith("#")).join("");
    if (plain.replace(/[\s-]/g, "").toUpperCase().startsWith(HYBRID.replace(/-/g, ""))) {
      throw new IdentityError("this reader does not know hybrid identities (`--pq`)");
    }
    try {
      return new Identity(fromText(TEXT, "identity", plain));
    } catch (problem) {
      if (problem instanceof WrongKey) throw new IdentityError(problem.message);
      throw problem;
    }
  }

  /** Open what was wrapped; null where it was wrapped for another, or altered. */
  async unwrap(wrapped, info) {
    const kem = new DhkemX25519HkdfSha256();
    const suite = new CipherSuite({ kem, kdf: new HkdfSha256(), aead: new Aes256Gcm() });
    const secret = hkdf512(this.#seed, undefined, utf8("mlguard/keystore/v2/x25519/x25519"), 32);
    const recipientKey = await kem.importKey("raw", exact(secret), false);
    try {
      const enc = exact(wrapped.subarray(0, ENC_BYTES));
      const opened = await suite.open(
        { recipientKey, enc, info: exact(info) },
        exact(wrapped.subarray(ENC_BYTES)),
      );
      return new Uint8Array(opened);
    } catch {
      return null;
    }
  }
}

/** The bytes in a buffer of their own. */
const exact = (bytes) => Uint8Array.from(bytes).buffer;
