"""A small HTTP service around one bundle: PNG or JPEG in, a mask as PNG out.

MLGUARD_BUNDLE names the bundle, MLGUARD_KEY_SOURCE where its key is (docs/deploy/
triton.md has the table). Each worker process opens a session of its own:

    uvicorn app:app --workers 4 --limit-concurrency 64
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response, UploadFile
from starlette.concurrency import run_in_threadpool

from mlguard.errors import MlguardError
from mlguard.pictures import mask_png
from mlguard.runtime import Session
from mlguard.runtime.images import decode_image
from mlguard.serving.key_sources import chosen_source, open_key

MAX_IMAGE_BYTES = 32 << 20


@asynccontextmanager
async def open_session(app: FastAPI) -> AsyncIterator[None]:
    """Open the bundle when the worker starts; a worker without a session is none."""
    bundle = Path(os.environ["MLGUARD_BUNDLE"])
    app.state.session = Session.open(bundle, open_key(chosen_source("")))
    yield


app = FastAPI(lifespan=open_session)


@app.get("/health")
def health(request: Request) -> dict[str, str]:
    """Answer once the bundle is open."""
    return {"provider": request.app.state.session.provider}


@app.post("/masks")
async def predict(request: Request, image: UploadFile) -> Response:
    """Give the mask of one image."""
    data = await image.read(MAX_IMAGE_BYTES + 1)
    if len(data) > MAX_IMAGE_BYTES:
        raise HTTPException(413, f"at most {MAX_IMAGE_BYTES} bytes")
    try:
        mask = await run_in_threadpool(mask_of, request.app.state.session, data)
    except MlguardError as refusal:
        raise HTTPException(422, str(refusal)) from None
    return Response(mask, media_type="image/png")


def mask_of(session: Session, data: bytes) -> bytes:
    """Decode, predict, encode."""
    pixels = decode_image(data, name="the image")
    (mask,) = session.predict(pixels)
    return mask_png(mask)
