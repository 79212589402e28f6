// The manifest: canonical JSON with a closed set of fields. bundle-v1.md and -v2.md, 2.

import { MalformedBundle } from "./errors.js";
import { parseCanonical, plain } from "./json.js";
import {
  and, flag, hex, list, map, matching, nothing, number, oneOf, orNull, positive, record, text, whole,
} from "./schema.js";

const BLOCK_SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const LAYER = /^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$/;
const WORDS = "BOOL|BYTES|BF16|FP16|FP32|FP64|INT8|INT16|INT32|INT64|UINT8|UINT16|UINT32|UINT64";
const DATATYPE = new RegExp(
  `^(${WORDS}|(tensor|seq|optional|map|sparse_tensor)\\([a-z0-9_(), ]+\\))$`,
);
const side = whole(1, 65536), share = and(number, [(v) => v >= 0 && v <= 1, "from 0 to 1"]);
const count = whole(0, Number.MAX_SAFE_INTEGER), size = whole(0, 2 ** 46);
const name = text(1, 1024), unique = (values) => new Set(values).size === values.length;

const transform = and(
  record(
    {
      spec: oneOf(1),
      methods: list(oneOf("shf", "np", "ffx", "orthogonal"), 0, 4),
      block_size: oneOf(...BLOCK_SIZES),
    },
    { shown_by_weights: oneOf(true) },
  ),
  [({ methods }) => unique(methods), "each method once"],
  [({ methods: m, block_size: b }) => !m.includes("orthogonal") || (m.length === 1 && b >= 2 && b <= 16), "a possible chain"],
  [({ methods: m }) => !["np", "ffx"].some((one) => m.includes("ffx") && m.indexOf(one) > m.indexOf("ffx")), "a possible chain"],
);
const featureMaps = and(
  list(record({ layer: matching(LAYER, 200), channels: whole(1, 65536), signs: flag }), 0, 256),
  [(maps) => unique(maps.map(({ layer }) => layer)), "each layer once"],
);
const audit = orNull(
  record({
    report_sha256: hex(64),
    ...Object.fromEntries(
      ["baseline", "correct_key", "no_key", "incorrect_keys_mean", "incorrect_keys_max"].map((key) => [key, orNull(share)]),
    ),
  }),
);
const tensor = record({
  name,
  datatype: matching(DATATYPE, 200),
  shape: orNull(list(whole(-1, Number.MAX_SAFE_INTEGER), 0, 64)),
});
const tensors = (low) => and(
  list(tensor, low, 4096),
  [(found) => unique(found.map((one) => one.name)), "each name once"],
);

const FORMAT_1 = record({
  schema: oneOf("mlguard.bundle/1"),
  protection_id: hex(32), key_id: hex(16), key_commitment: hex(64), mac: hex(64), selftest: hex(64),
  key_space_bits: number,
  task: oneOf("segmentation", "classification"),
  transform,
  feature_maps: featureMaps,
  normalization: record({ mean: list(number, 3, 3), std: list(positive, 3, 3) }),
  inputs: list(tensor, 1, 1), outputs: list(tensor, 1, 1),
  class_names: list(text(), 2, 65536),
  ignore_index: orNull(whole(0, 255)),
  image_size: list(side, 2, 2),
  opset: whole(18, 23),
  files: map(record({ sha256: hex(64), size: count }), 2, 2),
  licence: text(),
  provenance: record({ recipe_sha256: hex(64), data_fingerprint: text(), seed: count, versions: map(text()) }),
  audit,
  seal: orNull(record({ suite: oneOf("hkdf-sha512+aes-256-gcm") })),
  grants: nothing, signature: nothing,
});

const image = and(
  record({
    input: name,
    layout: oneOf("NCHW", "NHWC", "NCDHW", "NDHWC"),
    colours: oneOf("RGB", "BGR", "grey", "channels"),
    channels: whole(1, 4096),
    range: list(number, 2, 2),
    mean: list(number), std: list(positive),
    size: list(side, 2, 3),
    resize: record({ rule: oneOf("pad", "stretch", "crop"), multiple: side, shorter_side: orNull(side) }),
    transform: orNull(transform),
  }),
  [(v) => v.colours === "channels" || v.channels === (v.colours === "grey" ? 1 : 3), "as many channels as colours"],
  [(v) => v.mean.length === v.channels && v.std.length === v.channels, "one mean and std a channel"],
  [(v) => v.range[0] < v.range[1], "a range that rises"],
  [(v) => v.size.length === v.layout.length - 2, "a size that fits the layout"],
  [({ resize: r }) => (r.shorter_side !== null) === (r.rule === "crop") && (r.rule === "pad" || r.multiple === 1), "a possible resize"],
  [(v) => v.size.length < 3 || v.resize.rule === "pad", "volumes that are padded"],
  [(v) => v.transform === null || (v.layout === "NCHW" && v.colours === "RGB" && v.range[0] === 0 && v.range[1] === 1), "RGB in NCHW for a transform"],
);
const task = and(
  record({
    name: oneOf("segmentation", "classification", "detection"),
    output: name,
    class_names: list(text(), 2, 65536),
    ignore_index: orNull(whole(0, 65535)),
    stride: whole(1, 1024),
    labels: orNull(name), scores: orNull(name),
  }),
  [(v) => [v.labels, v.scores].every((one) => (one !== null) === (v.name === "detection")), "labels and scores of a detection"],
  [(v) => v.name === "segmentation" || (v.ignore_index === null && v.stride === 1), "ignore_index and stride of a segmentation"],
  [(v) => v.ignore_index === null || v.ignore_index >= v.class_names.length, "an ignore_index that is not a class"],
);
const coverage = and(
  record({ size, covered: size, share, plain: list(record({ name, size, reason: text() }), 0, 1000) }),
  [(v) => {
    const left = v.plain.reduce((sum, one) => sum + one.size, 0);
    return v.covered <= v.size && left <= v.size - v.covered && (v.plain.length === 1000 || v.covered + left === v.size);
  }, "covered and plain to add up to size"],
  [(v) => v.share === (v.size ? Math.floor((v.covered * 10000) / v.size) / 10000 : 1), "covered over size"],
);

const backbone = and(
  record({
    architecture: name, weights: name, tensors: hex(64), sha256: hex(64),
    maps: list(
      record({ name, channels: whole(1, 65536), stride: whole(1, 1024), probe: list(number, 8, 8) }), 1, 8,
    ),
  }),
  [({ maps }) => unique(["images", ...maps.map((one) => one.name)]), "each map once"],
);

const FORMAT_2 = and(
  record({
    schema: oneOf("mlguard.bundle/2"),
    protection_id: hex(32), key_id: hex(16), salt: hex(64), key_commitment: hex(64), mac: hex(64),
    issued: flag,
    seal: and(
      record({ suite: oneOf("sealed-tensors/1"), graph: flag, weights: flag }),
      [(v) => v.weights || !v.graph, "sealed weights of a sealed graph"],
    ),
    inputs: tensors(0), outputs: tensors(1),
    opsets: map(whole(1, 65536), 1, 64),
    image: orNull(image), task: orNull(task),
    feature_maps: featureMaps,
    coverage,
    licence: text(),
    provenance: record({ recipe: orNull(hex(64)), data: orNull(hex(64)), versions: map(text()) }),
    audit,
    files: map(record({ size, crc32: hex(8), tag: orNull(hex(32)) })),
    selftest: orNull(hex(64)),
  }, {
    precision: record({
      kind: oneOf("fp16", "int8"), images: whole(1, 2 ** 32),
      agreement: share, before: orNull(share), after: orNull(share),
    }),
    backbone,
  }),
  [(v) => !v.backbone || halves(v), "an image and the maps of its backbone as inputs"],
  [(v) => !v.image || v.inputs.some((one) => one.name === v.image.input), "an image that is an input"],
  [(v) => !v.task || [v.task.output, v.task.labels, v.task.scores].every((one) => one === null || v.outputs.some((out) => out.name === one)), "a task whose outputs are there"],
  [(v) => Boolean(v.image?.transform) === (v.selftest !== null), "a selftest with a transform"],
);

/** Whether a manifest is of a private half: it takes an image, and maps in half precision. */
function halves({ backbone: { maps }, image: taken, inputs }) {
  if (!taken || taken.transform || taken.layout !== "NCHW" || taken.colours !== "RGB") return false;
  if (taken.range[0] !== 0 || taken.range[1] !== 1 || inputs.length !== maps.length + 1) return false;
  return maps.every((one) => inputs.some((input) => input.name === one.name && input.name !== taken.input
    && input.datatype === "FP16" && input.shape?.join() === `-1,${one.channels},-1,-1`));
}

/**
 * Read a manifest, refusing every spelling but the canonical one.
 *
 * @throws {MalformedBundle}
 */
export function parseManifest(bytes, format, bundle) {
  try {
    const spelled = parseCanonical(bytes);
    (format === 1 ? FORMAT_1 : FORMAT_2)(spelled, "manifest.json");
    const manifest = plain(spelled);
    checkFiles(manifest, format);
    return manifest;
  } catch (problem) {
    if (problem instanceof TypeError || problem instanceof SyntaxError) {
      throw new MalformedBundle(`${bundle}: ${problem.message}`);
    }
    throw problem;
  }
}

function checkFiles(manifest, format) {
  const { files, seal } = manifest;
  const enc = (format === 1 ? seal !== null : seal.graph) ? ".enc" : "";
  const wanted = format === 1
    ? ["preprocess.onnx", `model.onnx${enc}`]
    : [`tensors.json${enc}`, `graph.onnx${enc}`, "weights.bin", ...(manifest.selftest ? ["preprocess.onnx"] : [])];
  if (Object.keys(files).sort().join() !== wanted.sort().join()) {
    throw new TypeError(`manifest.json.files: expected ${wanted.join(", ")}`);
  }
  if (format === 1) return;
  for (const [member, { tag }] of Object.entries(files)) {
    if ((tag === null) !== (member === "weights.bin")) throw new TypeError(`manifest.json.files.${member}.tag`);
  }
}
