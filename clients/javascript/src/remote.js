// A model at another machine, over the Open Inference Protocol's HTTP: float32 in, float32
// out. The host is not trusted: its answers are bounded, and what was asked for.

import { fromUtf8, utf8 } from "./bytes.js";
import { RemoteError } from "./errors.js";

const MAX_HEADER_BYTES = 1 << 20;

/**
 * A function that runs a model: from {data: Float32Array, dims} to the same.
 *
 * @param {string} url https://host:port, or http:// and an address of this machine
 * @param {string} model its name at the server
 * @param {object} given `input` and `output`, names; `token`, sent as `Bearer`;
 *   `timeoutMs`; `maxBytes` of an answer
 */
export function remoteModel(url, model, given = {}) {
  const { input = "pixels", output = "logits", token, timeoutMs = 30_000, maxBytes = 1 << 28 } = given;
  const base = new URL(url);
  const here = /^(127\.\d+\.\d+\.\d+|\[::1\])$/.test(base.hostname);
  if (base.protocol !== "https:" && !(base.protocol === "http:" && here)) {
    throw new RemoteError("expected https, or http to an address of this machine as 127.0.0.1");
  }
  const address = `${base.origin}${base.pathname.replace(/\/$/, "")}/v2/models/${encodeURIComponent(model)}/infer`;
  return async ({ data, dims }) => {
    const asked = utf8(JSON.stringify({
      inputs: [{ name: input, datatype: "FP32", shape: dims, parameters: { binary_data_size: data.byteLength } }],
      outputs: [{ name: output, parameters: { binary_data: true } }],
    }));
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const headers = {
      "Content-Type": "application/octet-stream",
      "Inference-Header-Content-Length": String(asked.length),
      ...(token ? { Authorization: `Bearer ${token}` } : {}),
    };
    const body = new Blob([asked, bytes]);
    const signal = AbortSignal.timeout(timeoutMs);
    let answer, content;
    try {
      answer = await fetch(address, { method: "POST", headers, body, signal, redirect: "error" });
      content = await bounded(answer, maxBytes);
    } catch (problem) {
      if (problem instanceof RemoteError) throw problem;
      throw new RemoteError(`${base.host} does not answer: ${problem.name}`);
    }
    if (!answer.ok) throw new RemoteError(`${base.host} answered ${answer.status}`);
    const size = Number(answer.headers.get("Inference-Header-Content-Length"));
    return scoresOf(content, size, output, base.host);
  };
}

async function bounded(answer, most) {
  const parts = [];
  let size = 0;
  for await (const part of answer.body ?? []) {
    size += part.length;
    if (size > most) throw new RemoteError(`an answer of more than ${most} bytes`);
    parts.push(part);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

function scoresOf(content, size, output, host) {
  const refuse = (why) => {
    throw new RemoteError(`${host} ${why}`);
  };
  if (!(size > 0 && size <= Math.min(content.length, MAX_HEADER_BYTES))) refuse("gives no tensors as bytes");
  let header;
  try {
    header = JSON.parse(fromUtf8(content.subarray(0, size)));
  } catch {
    refuse("gives no JSON");
  }
  const [one, ...more] = Array.isArray(header?.outputs) ? header.outputs : [];
  if (more.length || one?.name !== output || one.datatype !== "FP32") refuse(`gives other tensors than ${output}`);
  const dims = one.shape;
  const whole = Array.isArray(dims) && dims.length <= 8 && dims.every((side) => Number.isSafeInteger(side) && side >= 0);
  const bytes = content.slice(size);
  if (!whole || dims.reduce((a, b) => a * b, 4) !== bytes.length) refuse("gives a tensor of another size than it says");
  const data = new Float32Array(bytes.buffer);
  if (!data.every(Number.isFinite)) refuse("gives numbers that are not finite");
  return { data, dims };
}
