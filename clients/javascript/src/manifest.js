// The manifest: canonical JSON with a closed set of fields. bundle-v1.md and -v2.md, 2.

import { MalformedBundle } from "./errors.js";
import { Float, parseCanonical } from "./json.js";

const FIELDS = {
  1: `audit class_names feature_maps files grants ignore_index image_size inputs
      key_commitment key_id key_space_bits licence mac normalization opset outputs
      protection_id provenance schema seal selftest signature task transform`,
  2: `audit coverage feature_maps files image inputs issued key_commitment key_id licence
      mac opsets outputs protection_id provenance salt schema seal selftest task`,
};
const HEX = { protection_id: 32, key_id: 16, key_commitment: 64, mac: 64 };
const BLOCK_SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const METHODS = ["shf", "np", "ffx", "orthogonal"];
const LAYER = /^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$/;

/**
 * Read a manifest.
 *
 * Checked is what this reader relies on; the whole manifest stands under its MAC, which
 * only a holder of the key can make.
 */
export function parseManifest(bytes, format, name) {
  const refuse = (why) => {
    throw new MalformedBundle(`${name}: manifest.json: ${why}`);
  };
  let parsed;
  try {
    parsed = parseCanonical(bytes);
  } catch (problem) {
    refuse(`is not in its canonical spelling: ${problem.message}`);
  }
  const manifest = plain(parsed);
  if (Object(manifest) !== manifest || Array.isArray(manifest)) refuse("is not an object");
  if (manifest.schema !== `mlguard.bundle/${format}`) {
    refuse(`has the schema ${manifest.schema}, expected mlguard.bundle/${format}`);
  }
  const expected = FIELDS[format].split(/\s+/);
  const found = Object.keys(manifest).sort();
  if (found.join() !== expected.join()) refuse("has other fields than the format's");
  for (const [field, length] of Object.entries(HEX)) hexField(manifest, field, length, refuse);
  if (format === 1) check1(manifest, refuse);
  else check2(manifest, refuse);
  for (const { layer, channels, signs } of manifest.feature_maps) {
    if (!LAYER.test(layer) || !(channels >= 1 && channels <= 65536) || typeof signs !== "boolean") {
      refuse("feature_maps");
    }
  }
  return manifest;
}

function check1(manifest, refuse) {
  const { seal, transform, files } = manifest;
  if (manifest.grants !== null || manifest.signature !== null) {
    refuse("names a protection that this reader does not know");
  }
  if (seal !== null && seal.suite !== "hkdf-sha512+aes-256-gcm") refuse("seal.suite");
  hexField(manifest, "selftest", 64, refuse);
  checkTransform(transform, refuse);
  const model = seal === null ? "model.onnx" : "model.onnx.enc";
  if (Object.keys(files).sort().join() !== [model, "preprocess.onnx"].sort().join()) {
    refuse("files");
  }
  for (const member of Object.values(files)) {
    if (!/^[0-9a-f]{64}$/.test(member.sha256) || !Number.isSafeInteger(member.size)) refuse("files");
  }
}

function check2(manifest, refuse) {
  const { seal, image, files, issued } = manifest;
  hexField(manifest, "salt", 64, refuse);
  if (typeof issued !== "boolean") refuse("issued");
  if (seal.suite !== "sealed-tensors/1" || (seal.graph && !seal.weights)) refuse("seal");
  const keyed = image !== null && image.transform !== null;
  if (keyed) checkTransform(image.transform, refuse);
  if (keyed !== (manifest.selftest !== null)) refuse("selftest");
  const sealed = seal.graph ? ".enc" : "";
  const wanted = [`tensors.json${sealed}`, `graph.onnx${sealed}`, "weights.bin"];
  if (keyed) wanted.push("preprocess.onnx");
  if (Object.keys(files).sort().join() !== wanted.sort().join()) refuse("files");
  for (const [member, { size, crc32, tag }] of Object.entries(files)) {
    const whole = Number.isSafeInteger(size) && size >= 0 && /^[0-9a-f]{8}$/.test(crc32);
    const tagged = member === "weights.bin" ? tag === null : /^[0-9a-f]{32}$/.test(tag);
    if (!whole || !tagged) refuse("files");
  }
}

function checkTransform({ methods, block_size: m, spec }, refuse) {
  const twice = new Set(methods).size !== methods.length;
  if (spec !== 1 || twice || !methods.every((one) => METHODS.includes(one))) refuse("transform");
  if (!BLOCK_SIZES.includes(m)) refuse("transform.block_size");
  if (methods.includes("orthogonal") && (methods.length > 1 || m < 2 || m > 16)) refuse("transform");
}

function hexField(manifest, field, digits, refuse) {
  const value = manifest[field];
  if (typeof value !== "string" || value.length !== digits || !/^[0-9a-f]*$/.test(value)) {
    refuse(`${field}: expected ${digits} hex digits`);
  }
}

/** The same without the marks of numbers that had a point. */
function plain(value) {
  if (value instanceof Float) return value.value;
  if (Array.isArray(value)) return value.map(plain);
  if (Object(value) !== value) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
}
