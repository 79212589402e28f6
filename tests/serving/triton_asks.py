"""Ask a Triton through its own clients, in a Python that has them: a line in, one out.

Runs in the environment of the server, so that nothing of it is in that of the tests.
Arrays come and go as .npz files; requests and answers are lines of JSON.
"""

import hashlib
import json
import sys
import threading
from importlib import import_module

import numpy as np

KINDS = {"uint8": "UINT8", "float32": "FP32"}


def client_of(protocol, address):
    module = import_module(f"tritonclient.{protocol}")
    return module, module.InferenceServerClient(address)


def infer(protocol, address, model, tensors, outputs):
    module, client = client_of(protocol, address)
    given = []
    for name, array in tensors.items():
        tensor = module.InferInput(name, list(array.shape), KINDS[str(array.dtype)])
        tensor.set_data_from_numpy(array)
        given.append(tensor)
    found = client.infer(model, given)
    return {name: found.as_numpy(name) for name in outputs}


def images(seed, count, height, width):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (count, 3, height, width), dtype=np.uint8)


def fingerprint(array):
    described = f"{array.dtype.name}{array.shape}".encode()
    return hashlib.sha256(described + array.tobytes()).hexdigest()


def many(address, model, clients, requests):
    """Fingerprints of the answers to clients that ask at the same time, by seed."""
    found = {}

    def work(number):
        module, client = client_of("http", address)
        for seed in range(number * requests, (number + 1) * requests):
            pixels = images(seed, 1 + seed % 3, 8 + 4 * (seed % 2), 16)
            tensor = module.InferInput("images", list(pixels.shape), "UINT8")
            tensor.set_data_from_numpy(pixels)
            classes = client.infer(model, [tensor]).as_numpy("classes")
            found[seed] = fingerprint(classes)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def answer(asked):
    what = asked["do"]
    if what == "infer":
        with np.load(asked["tensors"]) as arrays:
            tensors = {name: arrays[name] for name in arrays.files}
        found = infer(
            asked["protocol"],
            asked["address"],
            asked["model"],
            tensors,
            asked["outputs"],
        )
        np.savez(asked["answer"], **found)
        return None
    if what == "many":
        return many(
            asked["address"], asked["model"], asked["clients"], asked["requests"]
        )
    _, client = client_of("http", asked["address"])
    if what == "ready":
        return client.is_model_ready(asked["model"], asked["version"])
    return client.get_model_metadata(asked["model"])


def main():
    for line in sys.stdin:
        try:
            said = {"found": answer(json.loads(line))}
        except Exception as error:
            said = {"error": str(error)}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
