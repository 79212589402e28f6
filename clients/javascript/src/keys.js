// Step 1: a model key, and the labelled subkeys every other step derives from it.
// docs/spec/keys-v1.md; the text form of a key is docs/spec/keystore-v1.md, section 4.

import { chacha20 } from "@noble/ciphers/chacha.js";

import { concat, equal, hex, utf8 } from "./bytes.js";
import { hkdf256, sha256 } from "./crypto.js";
import { WrongKey } from "./errors.js";

const LABEL = "mlguard/v1/";
const KEY_TEXT = "MLGUARD-KEY-1-";
const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const NO_NONCE = new Uint8Array(12);
const WORDS_AT_ONCE = 4096;

export class ModelKey {
  #secret;

  /** @param {Uint8Array} secret 32 bytes */
  constructor(secret) {
    if (secret.length !== 32) throw new TypeError("a model key is 32 bytes");
    this.#secret = Uint8Array.from(secret);
  }

  /** Read the text that `mlguard keys export` writes; lines with # are comments. */
  static parse(text) {
    const lines = text.split(/\r?\n/).filter((line) => !line.trim().startsWith("#"));
    return new ModelKey(fromText(KEY_TEXT, "key", lines.join("")));
  }

  /** Sixteen hex digits that name the key. Public. */
  get keyId() {
    return hex(hkdf256(this.#secret, undefined, utf8(`${LABEL}key-id`), 32)).slice(0, 16);
  }

  /** The subkeys of one protected model, whose public id is 16 bytes. */
  forModel(protectionId) {
    const secret = this.#secret;
    return {
      keyId: this.keyId,
      protectionId,
      derive: (use) => hkdf256(secret, protectionId, utf8(LABEL + use), 32),
    };
  }
}

/** Thirty-two secret bytes out of their text form. */
export function fromText(prefix, what, text) {
  const plain = text.replace(/[\s-]/g, "").toUpperCase();
  const start = prefix.replace(/-/g, "");
  const body = plain.slice(start.length);
  if (!plain.startsWith(start) || !/^[A-Z2-7]{56}$/.test(body)) {
    throw new WrongKey(`not a ${what}: expected ${prefix} and 56 characters`);
  }
  const bytes = new Uint8Array(35);
  let bits = 0, held = 0, end = 0;
  for (const letter of body) {
    held = ((held << 5) | BASE32.indexOf(letter)) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes[end++] = (held >> bits) & 0xff;
    }
  }
  const secret = bytes.subarray(0, 32);
  const check = sha256(concat(utf8(`mlguard ${what} 1`), secret)).subarray(0, 3);
  if (!equal(check, bytes.subarray(32))) {
    throw new WrongKey(`the checksum of the ${what} does not fit`);
  }
  return secret;
}

/** A subkey as an endless list of unsigned 32-bit integers. */
export class Words {
  #key;
  #block = 0;
  #words = new Uint32Array(0);
  #next = 0;

  constructor(subkey) {
    this.#key = subkey;
  }

  next() {
    if (this.#next === this.#words.length) {
      const stream = new Uint8Array(4 * WORDS_AT_ONCE);
      chacha20(this.#key, NO_NONCE, stream, stream, this.#block);
      const view = new DataView(stream.buffer);
      this.#words = Uint32Array.from({ length: WORDS_AT_ONCE }, (_, i) =>
        view.getUint32(4 * i, true),
      );
      this.#block += WORDS_AT_ONCE / 16;
      this.#next = 0;
    }
    return this.#words[this.#next++];
  }

  /** A choice below n, all equally likely. */
  below(n) {
    const limit = n * Math.floor(2 ** 32 / n);
    for (;;) {
      const word = this.next();
      if (word < limit) return word % n;
    }
  }
}

/** A permutation of 0 … length − 1, by Fisher and Yates from the end. */
export function permutation(subkey, length) {
  const words = new Words(subkey);
  const order = Array.from({ length }, (_, i) => i);
  for (let i = length - 1; i > 0; i--) {
    const j = words.below(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** True at half of the positions, rounded down. */
export function halfMask(subkey, length) {
  const mask = new Array(length).fill(false);
  for (const place of permutation(subkey, length).slice(0, length >> 1)) {
    mask[place] = true;
  }
  return mask;
}

/** +1 or −1 for each of `length` places. */
export function coinFlips(subkey, length) {
  const words = new Words(subkey);
  return Array.from({ length }, () => (words.next() & 1 ? -1 : 1));
}
