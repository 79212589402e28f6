// A second reader of mlguard's bundles, written from docs/spec and sharing no code with
// the first. It runs where onnxruntime-node or onnxruntime-web runs.

export * from "./errors.js";
export { openBundle } from "./bundle.js";
export { Identity } from "./identity.js";
export { ModelKey } from "./keys.js";
export { Preprocess } from "./preprocess.js";
export { remoteModel } from "./remote.js";
export { Session } from "./session.js";
