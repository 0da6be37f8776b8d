"""`python -m telewarm_benchmarks.bare PORT`: FastAPI alone, which takes a file in and hashes it, and keeps nothing."""

from __future__ import annotations

import hashlib
import sys
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, Request, UploadFile

app = FastAPI()


@app.post("/form")
async def form(file: Annotated[UploadFile, File()]) -> dict[str, object]:
    data = await file.read()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


@app.post("/raw")
async def raw(request: Request) -> dict[str, object]:
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return {"sha256": digest.hexdigest(), "bytes": size}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
