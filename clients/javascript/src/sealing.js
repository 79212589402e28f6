// What is encrypted in a file: the model of format 1, tensors and blobs of format 2.
// docs/spec/bundle-v1.md, section 5; docs/spec/sealed-tensors-v1.md.

import { concat, fromHex, sameSecret, u32, u64, utf8 } from "./bytes.js";
import { expand512, hkdf512, openAesGcm } from "./crypto.js";
import { MalformedBundle, TamperedBundle, WrongKey } from "./errors.js";

const NO_NONCE = new Uint8Array(12);
const OVERHEAD = 80;
const LABEL = "mlguard/sealed-tensors/v1/";
const DOMAIN = utf8("mlguard.sealed-tensors/1\0");
const IN_THE_CLEAR = Uint8Array.of(1);
export const CHUNK_BYTES = 2 ** 26;
const ALIGNMENT = 64;

/** Open the sealed model of format 1. */
export async function unseal1(sealed, subkeys, preprocessSha256, name) {
  if (sealed.length <= OVERHEAD) {
    throw new MalformedBundle(`${name} has ${sealed.length} bytes, expected more than ${OVERHEAD}`);
  }
  const okm = hkdf512(
    subkeys.derive("bundle/seal"), sealed.subarray(0, 32), utf8("mlguard/bundle/v1/model"), 64,
  );
  if (!sameSecret(okm.subarray(32), sealed.subarray(32, 64))) {
    throw new WrongKey(`${name} was not sealed under key ${subkeys.keyId}`);
  }
  const associated = concat(
    utf8("mlguard.bundle/1\0model.onnx\0"), subkeys.protectionId, fromHex(preprocessSha256),
  );
  const model = await openAesGcm(okm.subarray(0, 32), NO_NONCE, sealed.subarray(64), associated);
  if (model === null) throw new TamperedBundle(`${name} was changed after it was sealed`);
  return model;
}

/** The key of one file of format 2. */
export class FileKey {
  #root;

  /** @param {Uint8Array} secret 32 bytes  @param {Uint8Array} salt the file's, 32 bytes */
  constructor(secret, salt) {
    const okm = hkdf512(secret, salt, utf8(`${LABEL}root`), 96);
    this.#root = okm.subarray(0, 64);
    this.commitment = okm.subarray(64);
  }

  /** Return the key of an owner's own file, derived from the model key. */
  static ofOwner(subkeys, salt) {
    const secret = subkeys.derive("sealed-tensors");
    return new FileKey(hkdf512(secret, salt, utf8(`${LABEL}file-key`), 32), salt);
  }

  key(label) {
    return expand512(this.#root, utf8(LABEL + label), 32);
  }
}

/** Open a blob: a graph, a table. */
export async function openBlob(key, blob, data, tag, hidden, name) {
  const associated = concat(DOMAIN, utf8("blob\0"), utf8(blob));
  const opened = await open(key.key(`blob/${blob}`), 0, associated, data, tag, hidden);
  if (opened === null) throw new TamperedBundle(`${name}: ${blob} was changed after it was sealed`);
  return opened;
}

/**
 * Open the tensors of a file, one after the other.
 *
 * @param {{name: string, type: number, shape: number[], tags: string[], size: number}[]} table
 * @returns {Promise<Uint8Array[]>} the plain bytes of each
 */
export async function openTensors(key, table, weights, hidden, name) {
  const opened = [];
  let at = 0;
  for (const [index, row] of table.entries()) {
    const start = Math.ceil(at / ALIGNMENT) * ALIGNMENT;
    if (weights.subarray(at, start).some((byte) => byte !== 0)) {
      throw new TamperedBundle(`${name}: something stands between two tensors`);
    }
    at = start + row.size;
    opened.push(await openTensor(key, index, row, weights.subarray(start, at), hidden, name));
  }
  if (at !== weights.length) throw new MalformedBundle(`${name}: weights.bin has another size`);
  return opened;
}

async function openTensor(key, index, row, bytes, hidden, name) {
  const secret = key.key(`tensor/${index}`);
  const plain = new Uint8Array(bytes.length);
  const title = utf8(row.name);
  for (const [number, tag] of row.tags.entries()) {
    const start = number * CHUNK_BYTES;
    const associated = concat(
      DOMAIN,
      u32(index, row.tags.length, number, row.type, row.shape.length),
      u64(...row.shape),
      u32(title.length),
      title,
    );
    const chunk = bytes.subarray(start, start + CHUNK_BYTES);
    const opened = await open(secret, number, associated, chunk, fromHex(tag), hidden);
    if (opened === null) {
      throw new TamperedBundle(`${name}: tensor ${row.name} was changed after it was sealed`);
    }
    plain.set(opened, start);
  }
  return plain;
}

async function open(secret, number, associated, data, tag, hidden) {
  const nonce = concat(u32(number), new Uint8Array(8));
  if (hidden) return openAesGcm(secret, nonce, concat(data, tag), associated);
  const vouched = concat(associated, IN_THE_CLEAR, data);
  return (await openAesGcm(secret, nonce, tag, vouched)) && data;
}
