"""A stand-in for a server of the Open Inference Protocol, on loopback."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from mlguard.bundle import Tensor2
from mlguard.runtime.types import ELEMENT_OF, NUMPY_OF

Model = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


class Host:
    """Runs a model for who asks; `reply` answers in its place where it is set.

    Attributes:
        url: Its address.
        asked: Path, headers and tensors of every request.
        reply: Status, headers and body of the next answers, one each.
    """

    def __init__(
        self, model: Model, inputs: list[Tensor2], outputs: list[Tensor2]
    ) -> None:
        self.model, self.inputs, self.outputs = model, inputs, outputs
        self.asked: list[tuple[str, dict[str, str], dict[str, np.ndarray]]] = []
        self.reply: list[tuple[int, dict[str, str], bytes]] = []
        self.url = ""

    def described(self) -> bytes:
        sides = {"inputs": self.inputs, "outputs": self.outputs}
        model = {
            side: [
                {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
                for one in tensors
            ]
            for side, tensors in sides.items()
        }
        return json.dumps({"name": "acme", "platform": "any", **model}).encode()


def tensors_in(header: bytes, rest: bytes) -> dict[str, np.ndarray]:
    found, at = {}, 0
    for one in json.loads(header)["inputs"]:
        size = one["parameters"]["binary_data_size"]
        dtype = NUMPY_OF[ELEMENT_OF[one["datatype"]]]
        found[one["name"]] = np.frombuffer(rest[at : at + size], dtype).reshape(
            one["shape"]
        )
        at += size
    assert at == len(rest)
    return found


def answer_of(
    tensors: dict[str, np.ndarray], types: dict[str, str]
) -> tuple[dict[str, str], bytes]:
    """An answer with these tensors: headers and body."""
    listed = [
        {
            "name": name,
            "datatype": types[name],
            "shape": list(array.shape),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in tensors.items()
    ]
    header = json.dumps({"model_name": "acme", "outputs": listed}).encode()
    body = header + b"".join(array.tobytes() for array in tensors.values())
    return {"Inference-Header-Content-Length": str(len(header))}, body


@contextmanager
def host(
    model: Model,
    inputs: list[Tensor2],
    outputs: list[Tensor2],
    *,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Host]:
    """Serve a model until the end of the block."""
    served = Host(model, inputs, outputs)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.asked.append((self.path, dict(self.headers), {}))
            self.give(served.described())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            size = int(self.headers["Inference-Header-Content-Length"])
            given = tensors_in(body[:size], body[size:])
            served.asked.append((self.path, dict(self.headers), given))
            if served.reply:
                status, headers, content = served.reply.pop(0)
                return self.give(content, status, headers)
            types = {one.name: one.datatype for one in served.outputs}
            headers, content = answer_of(served.model(given), types)
            return self.give(content, 200, headers)

        def give(self, content: bytes, status: int = 200, headers=()) -> None:
            self.send_response(status)
            for name, value in {
                "Content-Length": str(len(content)),
                **dict(headers),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    served.url = f"http{'s' * (tls is not None)}://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
