// A bundle, unlocked by its key and ready to predict.

import { checkSelftest, openBundle, selftestImage } from "./bundle.js";
import { BundleError, ShapeError } from "./errors.js";

export class Session {
  #ort;
  #preprocess;
  #model;

  /**
   * Read a bundle, check it against the key, and load its graphs.
   *
   * @param {object} ort onnxruntime-node or onnxruntime-web
   * @param {Uint8Array} file the bundle
   * @param {ModelKey|Identity} key
   * @param {object} given as for `openBundle`, and `options` for onnxruntime
   */
  static async open(ort, file, key, { options = {}, ...given } = {}) {
    const bundle = await openBundle(file, key, given);
    const session = new Session();
    session.#ort = ort;
    session.manifest = bundle.manifest;
    session.format = bundle.format;
    session.blockSize = bundle.blockSize;
    if (bundle.preprocess) session.#preprocess = await loadImages(ort, bundle, options);
    session.#model = await load(ort, bundle.model, bundle.modelData, options);
    return session;
  }

  /**
   * Give every pixel a class, or every image if the model classifies.
   *
   * @param {Uint8Array} image (3, height, width), RGB
   * @returns {Promise<Uint8Array|Uint16Array|number>} class ids, one a pixel, row by row; or one
   */
  async predict(image, height, width) {
    return classesOf(await this.logits(image, height, width), this.manifest, height, width);
  }

  /** The scores of every class, as onnxruntime's tensor, of the padded image. */
  async logits(image, height, width) {
    refuseOthers(this);
    const [padded, h, w] = fitted(image, height, width, this);
    const pixels = await this.#pixels(padded, h, w);
    const input = this.manifest.image?.input ?? "pixels";
    const output = this.manifest.task?.output ?? "logits";
    return (await this.#model.run({ [input]: pixels }))[output];
  }

  /** Run the model on tensors of onnxruntime, by name; for bundles of any kind. */
  async run(feeds) {
    return this.#model.run(feeds);
  }

  async #pixels(image, height, width) {
    const dims = [1, 3, height, width];
    if (this.#preprocess) {
      const images = new this.#ort.Tensor("uint8", image, dims);
      return (await this.#preprocess.run({ images })).pixels;
    }
    return new this.#ort.Tensor("float32", normalized(image, height * width, this.manifest), dims);
  }
}

/** Load the keyed transform, and refuse one that this machine computes otherwise. */
export async function loadImages(ort, bundle, options) {
  const graph = await load(ort, bundle.preprocess, bundle.preprocessData, options);
  const [image, height, width] = selftestImage(bundle.blockSize);
  const images = new ort.Tensor("uint8", image, [1, 3, height, width]);
  const { values } = await graph.run({ images });
  checkSelftest(bundle, Int32Array.from(values.data));
  return graph;
}

/** Refuse what this reader does not do, instead of giving another answer. */
export function refuseOthers({ format, manifest }) {
  if (format === 1) return;
  const { image, task, backbone } = manifest;
  if (backbone) {
    throw new BundleError(
      `this is the private half of a model: it needs the public half, ${backbone.architecture} with ${backbone.weights}; run() takes pixels and its maps`,
    );
  }
  const simple = image && task && task.name !== "detection" && task.stride === 1
    && image.resize.rule === "pad" && image.layout === "NCHW" && image.colours === "RGB";
  if (!simple) {
    throw new BundleError(
      "this reader predicts on padded RGB images in NCHW, with a score for every pixel or image; use run()",
    );
  }
}

/** An image padded to what the model takes: [bytes, height, width]. */
export function fitted(image, height, width, { blockSize, manifest }) {
  if (!(image instanceof Uint8Array) || image.length !== 3 * height * width || !image.length) {
    throw new ShapeError(`expected an image of ${3 * height * width} bytes (3, H, W)`);
  }
  return pad(image, height, width, Math.max(blockSize, manifest.image?.resize.multiple ?? 1));
}

/** The class of every pixel of an image, or of the image: the largest score. */
export function classesOf({ data, dims }, manifest, height, width) {
  const [, classes, rows = 1, columns = 1] = dims;
  const names = (manifest.task?.class_names ?? manifest.class_names).length;
  if (classes !== names) throw new BundleError(`expected ${names} scores, got ${classes}`);
  const best = argmax(data, classes, rows * columns);
  if (dims.length === 2) return best[0];
  const mask = new best.constructor(height * width);
  for (let y = 0; y < height; y++) {
    mask.set(best.subarray(y * columns, y * columns + width), y * width);
  }
  return mask;
}

async function load(ort, graph, data, options) {
  const externalData = data.map(({ path, data: bytes }) => ({ path, data: bytes }));
  return ort.InferenceSession.create(graph, { logSeverityLevel: 3, ...options, externalData });
}

/** Pixels as the model takes them where no key acts on images. */
function normalized(image, area, manifest) {
  const { mean, std, layout, colours, range } = manifest.image ?? {};
  if (layout !== "NCHW" || colours !== "RGB") {
    throw new BundleError("this reader prepares RGB images in NCHW only; use run()");
  }
  const out = new Float32Array(image.length);
  for (let channel = 0; channel < 3; channel++) {
    for (let i = channel * area; i < (channel + 1) * area; i++) {
      const value = range[0] + (image[i] / 255) * (range[1] - range[0]);
      out[i] = (value - mean[channel]) / std[channel];
    }
  }
  return out;
}

/** Repeat the edge at bottom and right up to the next multiple of m. */
export function pad(image, height, width, m) {
  const [h, w] = [Math.ceil(height / m) * m, Math.ceil(width / m) * m];
  if (h === height && w === width) return [image, h, w];
  const out = new Uint8Array(3 * h * w);
  for (let c = 0; c < 3; c++) {
    for (let y = 0; y < h; y++) {
      const row = (c * height + Math.min(y, height - 1)) * width;
      const to = (c * h + y) * w;
      out.set(image.subarray(row, row + width), to);
      out.fill(image[row + width - 1], to + width, to + w);
    }
  }
  return [out, h, w];
}

function argmax(scores, classes, area) {
  const best = classes > 256 ? new Uint16Array(area) : new Uint8Array(area);
  for (let i = 0; i < area; i++) {
    let top = 0;
    for (let k = 1; k < classes; k++) {
      if (scores[k * area + i] > scores[top * area + i]) top = k;
    }
    best[i] = top;
  }
  return best;
}
