// Step 2: what the key does to an image, and the tensors that fill a graph's key slots.
// docs/spec/transforms-v1.md.

import { concat, hex, u32 } from "./bytes.js";
import { hmacSha1 } from "./crypto.js";
import { coinFlips, halfMask, permutation } from "./keys.js";

const ROUNDS = 10;

/** What one method does: its key slots, and the same to the values of one block. */
const METHODS = {
  shf(subkeys, m) {
    const order = permutation(subkeys.derive(`shf/m=${m}/c=3`), 3 * m * m);
    const slot = int64("shf.order", order);
    return { slots: [slot], apply: (b) => order.map((from) => b[from]) };
  },
  np(subkeys, m) {
    const mask = halfMask(subkeys.derive(`np/m=${m}/c=3`), 3 * m * m);
    const slot = bool("np.mask", mask);
    return { slots: [slot], apply: (b) => b.map((v, i) => (mask[i] ? 255 - v : v)) };
  },
  ffx(subkeys, m) {
    const mask = halfMask(subkeys.derive(`ffx-mask/m=${m}/c=3`), 3 * m * m);
    const table = feistelTable(subkeys.derive("ffx-password"));
    return {
      slots: [bool("ffx.mask", mask), float("ffx.table", table, [256])],
      apply: (b) => b.map((v, i) => (mask[i] ? table[v] : v)),
      scale: Math.max(...table),
    };
  },
  orthogonal(subkeys, m) {
    const size = 3 * m * m;
    const rounds = [1, 2].map((r) => ({
      order: permutation(subkeys.derive(`orthogonal-order/${r}/m=${m}/c=3`), size),
      signs: coinFlips(subkeys.derive(`orthogonal-signs/${r}/m=${m}/c=3`), size),
    }));
    const map = (v) => rounds.reduce((x, round) => mixed(x, round, m * m), v);
    const columns = Array.from({ length: size }, (_, j) =>
      map(Array.from({ length: size }, (_, i) => (i === j ? 1 : 0))),
    );
    const matrix = columns.flatMap((_, i) => columns.map((column) => column[i]));
    return {
      slots: [float("orthogonal.matrix", matrix, [size, size, 1, 1])],
      apply: (b) => map(b.map((v) => 2 * v - 255)).map((v) => v + 255 * m * m),
      scale: 510 * m * m,
    };
  },
};

/**
 * The transform of a chain of methods under one model's subkeys.
 *
 * @returns {{slots: object[], values: Function, scale: number}} Tensors by key slot, and
 *   the exact integers of an image (3, H, W) whose sides are multiples of m.
 */
export function deriveTransform(methods, m, subkeys) {
  const steps = methods.map((method) => METHODS[method](subkeys, m));
  return {
    slots: steps.flatMap((step) => step.slots),
    scale: Math.max(255, ...steps.map((step) => step.scale ?? 0)),
    values(image, height, width) {
      const out = new Int32Array(image.length);
      for (let y = 0; y < height; y += m) {
        for (let x = 0; x < width; x += m) {
          const places = blockPlaces(m, y, x, height, width);
          let block = places.map((place) => image[place]);
          for (const step of steps) block = step.apply(block);
          places.forEach((place, i) => (out[place] = block[i]));
        }
      }
      return out;
    },
  };
}

/** The tensors of permuted feature maps, section 9. */
export function channelSlots(featureMaps, subkeys) {
  return featureMaps.flatMap(({ layer, channels, signs }) => {
    const order = permutation(subkeys.derive(`channels/${layer}/c=${channels}`), channels);
    const slots = [int64(`channels.order/${layer}`, order)];
    if (signs) {
      const flips = coinFlips(subkeys.derive(`channel-signs/${layer}/c=${channels}`), channels);
      slots.push(float(`channels.signs/${layer}`, flips, [channels, 1, 1]));
    }
    return slots;
  });
}

/** The 256 integers of format-preserving encryption under a password, section 4. */
export function feistelTable(password) {
  return Array.from({ length: 256 }, (_, value) => {
    const digits = [...String(value).padStart(3, "0")].map(Number);
    let [a, b] = [digits.slice(0, 1), digits.slice(1)];
    for (let round = 0; round < ROUNDS; round++) {
      const mac = hmacSha1(password, concat(u32(round), u32(...b), u32(0)));
      const number = BigInt("0x" + hex(mac));
      const f = [number % 10n, (number / 10n) % 10n].map(Number);
      [a, b] = [b, a.map((digit, i) => (digit + f[i]) % 10)];
    }
    return Number([...a, ...b].join(""));
  });
}


/** One round of `orthogonal`: signs, order, then Walsh and Hadamard on each third. */
function mixed(v, { order, signs }, n) {
  const w = order.map((from, i) => signs[i] * v[from]);
  for (let start = 0; start < w.length; start += n) {
    for (let half = 1; half < n; half *= 2) {
      for (let i = start; i < start + n; i += 2 * half) {
        for (let j = i; j < i + half; j++) {
          [w[j], w[j + half]] = [w[j] + w[j + half], w[j] - w[j + half]];
        }
      }
    }
  }
  return w;
}

/** Where the values of one block lie in an image (3, H, W), in the order of section 1. */
function blockPlaces(m, y, x, height, width) {
  const places = [];
  for (let r = 0; r < m; r++) {
    for (let s = 0; s < m; s++) {
      for (let c = 0; c < 3; c++) places.push((c * height + y + r) * width + x + s);
    }
  }
  return places;
}

const int64 = (name, values) => ({
  name,
  type: "int64",
  dims: [values.length],
  data: BigInt64Array.from(values, BigInt),
});
const bool = (name, values) => ({
  name,
  type: "bool",
  dims: [values.length, 1, 1],
  data: Uint8Array.from(values, Number),
});
const float = (name, values, dims) => ({
  name,
  type: "float32",
  dims,
  data: Float32Array.from(values),
});
