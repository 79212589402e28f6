// Open a bundle: nothing is decrypted before the key has authenticated the manifest, and
// nothing reaches onnxruntime before all of it was checked.
// docs/spec/bundle-v1.md, section 3, and bundle-v2.md, section 5.

import { fromHex, fromUtf8, hex, sameSecret, utf8 } from "./bytes.js";
import { hmac256, sha256, shake } from "./crypto.js";
import { BundleError, MalformedBundle, TamperedBundle, WrongKey } from "./errors.js";
import { openGrant } from "./grant.js";
import { checkGraph } from "./graph.js";
import { withTensors } from "./inline.js";
import { parseCanonical } from "./json.js";
import { parseManifest } from "./manifest.js";
import { isPrintable } from "./schema.js";
import { CHUNK_BYTES, FileKey, openBlob, openTensors, unseal1 } from "./sealing.js";
import { channelSlots, deriveTransform } from "./transforms.js";
import { first2, formatOf, unpack1, unpack2 } from "./zip.js";

const ORDER_2 = ["tensors.json", "graph.onnx", "preprocess.onnx", "weights.bin"];
const ELEMENT_BITS = {
  1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64,
  14: 64, 15: 128, 16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2,
  26: 2, 27: 6, 28: 6,
};
const MAX_TENSORS = 100_000;

/**
 * Read a bundle and open it with its key, in memory.
 *
 * @param {Uint8Array} file the whole bundle
 * @param {ModelKey|Identity} key the owner's model key, or a customer's identity
 * @param {object} given `name` in refusals; `imagesOnly`, to leave the model alone; for an
 *   identity what `openGrant` takes
 * @returns {Promise<object>} manifest; preprocess and model as ONNX; `preprocessData` and
 *   `modelData`, the tensors outside each graph by location; transform; selftest image
 */
export async function openBundle(file, key, { name = "the bundle", ...given } = {}) {
  if (formatOf(file, name) === 2) return open2(file, key, name, given);
  if (!key.forModel) throw new WrongKey(`${name} is of format 1, which cannot be issued to a customer`);
  return open1(file, key, name, given);
}

async function open1(file, key, name, { imagesOnly = false }) {
  const members = unpack1(file, name);
  const manifest = parseManifest(members["manifest.json"], 1, name);
  const stored = manifest.seal === null ? "model.onnx" : "model.onnx.enc";
  if (!(stored in members)) {
    throw new MalformedBundle(`${name}: manifest.json and the file disagree about the seal`);
  }
  for (const [member, { sha256: digest, size }] of Object.entries(manifest.files)) {
    const content = members[member];
    if (content.length !== size || hex(sha256(content)) !== digest) {
      throw new TamperedBundle(`${name}: ${member} does not match its SHA-256 in manifest.json`);
    }
  }
  const subkeys = checkId(manifest, key, name);
  const commitment = hmac256(subkeys.derive("bundle/commitment"), sha256(members[stored]));
  checkSecret(commitment, manifest.key_commitment, `${name}: key_commitment`);
  const message = withoutMac(members["manifest.json"], manifest.mac);
  checkSecret(hmac256(subkeys.derive("bundle/manifest"), message), manifest.mac, `${name}: mac`);

  const { methods, block_size: blockSize } = manifest.transform;
  const transform = deriveTransform(methods, blockSize, subkeys);
  const preprocess = members["preprocess.onnx"];
  const declared = checkGraph(preprocess, `${name}: preprocess.onnx`);
  const preprocessData = fill(declared, transform.slots, `${name}: preprocess.onnx`);
  const selftestKey = subkeys.derive("bundle/selftest");
  const images = {
    format: 1, name, manifest, transform, blockSize, selftestKey,
    preprocess: withTensors(preprocess, preprocessData), preprocessData: [],
  };
  if (imagesOnly) return images;
  const model = manifest.seal === null
    ? members[stored]
    : await unseal1(members[stored], subkeys, manifest.files["preprocess.onnx"].sha256, `${name}: ${stored}`);
  const slots = channelSlots(manifest.feature_maps, subkeys);
  const modelData = fill(checkGraph(model, `${name}: model.onnx`), slots, `${name}: model.onnx`);
  return { ...images, model: withTensors(model, modelData), modelData: [] };
}

async function open2(file, key, name, { imagesOnly = false, ...given }) {
  const first = first2(file, name);
  refuseNewer(first.content, name);
  const manifest = parseManifest(first.content, 2, name);
  const members = unpack2(file, named2(manifest, first), name);
  if (key.forModel && manifest.issued) {
    throw new WrongKey(`${name} was issued to a customer; the model key does not open it`);
  }
  const about = { manifest, manifestBytes: first.content, members, name };
  const owned = key.forModel ? checkId(manifest, key, name) : await openGrant(about, key, given);
  const salt = fromHex(manifest.salt);
  const fileKey = manifest.issued
    ? new FileKey(owned.contentKey, salt)
    : FileKey.ofOwner(owned, salt);
  checkSecret(fileKey.commitment, manifest.key_commitment, `${name}: key_commitment`);
  const message = withoutMac(first.content, manifest.mac);
  checkSecret(hmac256(fileKey.key("bundle/manifest"), message), manifest.mac, `${name}: mac`);

  const sealed = manifest.seal.graph ? ".enc" : "";
  const blob = (member, hidden) =>
    openBlob(fileKey, member, members[member].content, fromHex(manifest.files[member].tag), hidden, name);
  const keyed = manifest.image?.transform ?? null;
  const blockSize = keyed?.block_size ?? 1;
  const transform = deriveTransform(keyed?.methods ?? [], blockSize, owned);
  const preprocess = keyed && (await blob("preprocess.onnx", false));
  const preprocessData = preprocess
    && fill(checkGraph(preprocess, `${name}: preprocess.onnx`), transform.slots, `${name}: preprocess.onnx`);
  const selftestKey = keyed && fileKey.key("bundle/selftest");
  const images = { format: 2, name, manifest, transform, blockSize, preprocess, preprocessData, selftestKey };
  if (imagesOnly) return images;

  const table = parseTable(await blob(`tensors.json${sealed}`, manifest.seal.graph), name);
  const model = await blob(`graph.onnx${sealed}`, manifest.seal.graph);
  const graph = checkGraph(model, `${name}: graph.onnx`, { anyDomain: true });
  const weights = members["weights.bin"].content;
  checkOpsets(graph.opsets, manifest.opsets, `${name}: graph.onnx`);
  checkNames(graph, table, manifest.feature_maps, name);
  const plain = await openTensors(fileKey, table, weights, manifest.seal.weights, name);
  const slots = channelSlots(manifest.feature_maps, owned);
  const tensors = table.map((row, i) => ({ ...row, data: plain[i] }));
  const modelData = fill(graph, [...slots, ...tensors], `${name}: graph.onnx`);
  return { ...images, model, modelData };
}

/** Refuse a transform that this machine computes otherwise than the key's owner did. */
export function checkSelftest(bundle, values) {
  const found = hmac256(bundle.selftestKey, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  if (!sameSecret(found, fromHex(bundle.manifest.selftest))) {
    throw new MalformedBundle(`${bundle.name}: the self-test of preprocess.onnx failed`);
  }
}

/** The public image of the self-test: [bytes, height, width]. */
export function selftestImage(m) {
  return [shake(utf8("mlguard/v1/selftest-image"), 18 * m * m), 2 * m, 3 * m];
}

function checkId(manifest, key, name) {
  if (key.keyId !== manifest.key_id) {
    throw new WrongKey(`${name} was made for key ${manifest.key_id}, got key ${key.keyId}`);
  }
  return key.forModel(fromHex(manifest.protection_id));
}

function checkSecret(found, expected, what) {
  if (!sameSecret(found, fromHex(expected))) {
    throw new TamperedBundle(`${what} is not what the key's owner wrote`);
  }
}

/** The canonical manifest without its field `mac`. */
function withoutMac(bytes, mac) {
  const text = fromUtf8(bytes);
  const field = `"mac":"${mac}",`;
  // Read canonically, so it stands there once at the top level; a copy of it inside a
  // string would have escaped quotes.
  const at = text.indexOf(field);
  return utf8(text.slice(0, at) + text.slice(at + field.length));
}

function refuseNewer(bytes, name) {
  const found = /"schema":"mlguard\.bundle\/(\d{1,4})"/.exec(fromUtf8(bytes));
  if (found && Number(found[1]) > 2) {
    throw new BundleError(`${name} is of format ${found[1]}, this reader knows up to 2`);
  }
}

function named2(manifest, first) {
  const members = [{ name: "manifest.json", size: first.content.length, crc: first.crc }];
  for (const stem of ORDER_2) {
    for (const member of [stem, `${stem}.enc`]) {
      const facts = manifest.files[member];
      if (facts) members.push({ name: member, size: facts.size, crc: parseInt(facts.crc32, 16) });
    }
  }
  return members;
}

function parseTable(bytes, name) {
  const refuse = (why) => {
    throw new MalformedBundle(`${name}: table of tensors: ${why}`);
  };
  let rows;
  try {
    rows = parseCanonical(bytes);
  } catch (problem) {
    refuse(problem.message);
  }
  if (!Array.isArray(rows) || rows.length > MAX_TENSORS) refuse("is not a list of tensors");
  if (new Set(rows.map((row) => row?.name)).size !== rows.length) refuse("two tensors have one name");
  return rows.map((row) => {
    if (Object.keys(row).join() !== "name,shape,tags,type") refuse("a tensor has other fields");
    const bits = ELEMENT_BITS[row.type];
    const sound = typeof row.name === "string" && row.name && row.name.length <= 1024 && isPrintable(row.name) && bits
      && Array.isArray(row.shape) && row.shape.every((side) => Number.isSafeInteger(side) && side >= 0);
    if (!sound) refuse("a tensor's name, type or shape is wrong");
    const size = Math.ceil((row.shape.reduce((a, b) => a * b, 1) * bits) / 8);
    const chunks = Math.max(1, Math.ceil(size / CHUNK_BYTES));
    const tagged = Array.isArray(row.tags) && row.tags.length === chunks
      && row.tags.every((tag) => /^[0-9a-f]{32}$/.test(tag));
    if (!tagged) refuse("a tensor has other tags than its chunks need");
    return { ...row, size };
  });
}

function checkOpsets(found, expected, name) {
  const same = found.size === Object.keys(expected).length
    && [...found].every(([domain, version]) => expected[domain] === version);
  if (!same) throw new MalformedBundle(`${name} has other operator sets than manifest.json says`);
}

/** Refuse a graph that points to other data outside than there is. */
function checkNames(graph, table, maps, name) {
  const slots = maps.flatMap(({ layer, signs }) =>
    [`channels.order/${layer}`, ...(signs ? [`channels.signs/${layer}`] : [])]);
  const expected = [...slots, ...table.map((row) => row.name)].sort();
  if (expected.join("\0") !== [...graph.slots.keys()].sort().join("\0")) {
    throw new MalformedBundle(`${name}: graph.onnx has other tensors outside than the table`);
  }
  const places = [...graph.slots.values()].map((slot) => slot.location);
  if (new Set(places).size !== places.length) {
    throw new MalformedBundle(`${name}: two tensors of graph.onnx have one place`);
  }
}

/** Put tensors where a graph declares data outside; both must name the same. */
function fill(graph, tensors, name) {
  const given = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  for (const slot of graph.slots.keys()) {
    if (!given.has(slot)) throw new MalformedBundle(`${name} points to data outside: ${slot}`);
  }
  return tensors.map((tensor) => {
    const slot = graph.slots.get(tensor.name);
    if (!slot) throw new MalformedBundle(`${name} lacks ${tensor.name}`);
    const { buffer, byteOffset, byteLength } = tensor.data;
    return { path: slot.location, data: new Uint8Array(buffer, byteOffset, byteLength), name: tensor.name };
  });
}

