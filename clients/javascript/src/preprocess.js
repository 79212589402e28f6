// What a key does to images, apart from the model: for a client whose host has no key.

import { openBundle } from "./bundle.js";
import { BundleError, RemoteError } from "./errors.js";
import { classesOf, fitted, loadImages, refuseOthers } from "./session.js";

export class Preprocess {
  #ort;
  #graph;

  /**
   * Read a bundle, check it against the key, and load what it does to images. Its model
   * is left alone, so it may be a sealed one.
   *
   * @param {object} ort onnxruntime-node or onnxruntime-web
   * @param {Uint8Array} file the bundle
   * @param {ModelKey|Identity} key
   * @param {object} given as for `Session.open`
   */
  static async open(ort, file, key, { options = {}, ...given } = {}) {
    const bundle = await openBundle(file, key, { ...given, imagesOnly: true });
    const { manifest, name } = bundle;
    if (manifest.feature_maps.length) {
      throw new BundleError(`${name}: the key acts inside the model, so the host needs it`);
    }
    const keyed = bundle.format === 1 ? manifest.transform.methods.length : bundle.preprocess;
    if (!keyed) throw new BundleError(`${name}: the key does nothing to images`);
    refuseOthers(bundle);
    const client = new Preprocess();
    Object.assign(client, { manifest, format: bundle.format, blockSize: bundle.blockSize });
    client.#ort = ort;
    client.#graph = await loadImages(ort, bundle, options);
    return client;
  }

  /** Names of the host's input and output. */
  get tensors() {
    const { image, task } = this.manifest;
    return { input: image?.input ?? "pixels", output: task?.output ?? "logits" };
  }

  /**
   * An image as the host's model takes it: {data, dims}. Keep it as secret as the key.
   *
   * @param {Uint8Array} image (3, height, width), RGB
   */
  async pixels(image, height, width) {
    const [padded, h, w] = fitted(image, height, width, this);
    const images = new this.#ort.Tensor("uint8", padded, [1, 3, h, w]);
    const { data, dims } = (await this.#graph.run({ images })).pixels;
    return { data, dims };
  }

  /**
   * Give every pixel a class, or every image if the model classifies.
   *
   * @param {Uint8Array} image (3, height, width), RGB
   * @param {Function} infer from {data, dims} to {data, dims}, such as `remoteModel` gives
   */
  async predict(image, height, width, infer) {
    const pixels = await this.pixels(image, height, width);
    const scores = await infer(pixels);
    const [, , h, w] = pixels.dims;
    const classes = (this.manifest.task?.class_names ?? this.manifest.class_names).length;
    const classifies = (this.manifest.task?.name ?? this.manifest.task) === "classification";
    const expected = classifies ? [1, classes] : [1, classes, h, w];
    if (scores.dims.join() !== expected.join()) {
      throw new RemoteError(`the host gives scores of ${scores.dims}, expected ${expected}`);
    }
    return classesOf(scores, this.manifest, height, width);
  }
}
