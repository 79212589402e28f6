"""Serve a bundle over HTTP with nothing but the standard library.

    python docs/examples/serve.py acme.mlgb 8000       # the key: MLGUARD_KEY_SOURCE
    curl --data-binary @photo.jpg -o mask.png http://127.0.0.1:8000/

For many users take Triton or FastAPI (docs/deploy/); this shows what they do inside:
one session, opened once, used from every thread.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from mlguard.errors import ImageError
from mlguard.pictures import mask_png
from mlguard.runtime import Session
from mlguard.runtime.images import decode_image
from mlguard.serving.key_sources import chosen_source, open_key

MAX_BYTES = 32 * 1024 * 1024  # of a picture that is sent


def server(session: Session, port: int) -> ThreadingHTTPServer:
    """A server that answers a picture with its mask; it listens on this machine."""

    class Masks(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if not 0 < length <= MAX_BYTES:
                self.send_error(413, "expected a picture of at most 32 MiB")
                return
            try:
                image = decode_image(self.rfile.read(length), name="the picture")
            except ImageError as refusal:
                self.send_error(400, str(refusal)[:200])
                return
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(mask_png(session.predict(image)[0]))

        def log_message(self, *_: object) -> None:
            """Say nothing of who asked for what."""

    return ThreadingHTTPServer(("127.0.0.1", port), Masks)


if __name__ == "__main__":
    bundle, port = Path(sys.argv[1]), int(sys.argv[2])
    with server(Session.open(bundle, open_key(chosen_source(""))), port) as running:
        running.serve_forever()
