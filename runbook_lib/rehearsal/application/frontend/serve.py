"""Serves dist/, the pictures of the conversations, and the backend's API."""

import argparse
import json
import logging
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

DIST = Path(__file__).resolve().parent / "dist"
PICTURE = re.compile(r"(?:upload-)?(\d{6,9})\.svg")
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="320" height="200" viewBox="0 0 320 200">
<rect width="320" height="200" fill="hsl({hue} 45% 72%)"/>
<circle cx="{x}" cy="70" r="34" fill="hsl({hue} 55% 88%)"/>
<path d="M0 200 L110 90 L180 160 L230 120 L320 200 Z" fill="hsl({hue} 40% 45%)"/>
<text x="12" y="188" font-family="sans-serif" font-size="14" fill="white">{name}</text>
</svg>
"""

logger = logging.getLogger("frontend")


def built_version() -> str:
    version: str = json.loads((DIST / "version.json").read_text())["version"]
    return version[:12]


async def page(request: Request) -> Response:
    return FileResponse(DIST / "index.html", headers={"Cache-Control": "no-cache"})


async def version(request: Request) -> Response:
    return JSONResponse({"version": request.app.state.version}, headers={"Cache-Control": "no-cache"})


async def favicon(request: Request) -> Response:
    return FileResponse(DIST / "favicon.svg")


async def picture(request: Request) -> Response:
    name = request.path_params["name"]
    if not (match := PICTURE.fullmatch(name)):
        return JSONResponse({"error": "no such picture"}, 404)
    number = int(match[1])
    svg = SVG.format(hue=number * 47 % 360, x=60 + number * 31 % 200, name=name)
    return Response(svg, media_type="image/svg+xml")


async def api(request: Request) -> Response:
    try:
        answer = await request.app.state.backend.request(
            request.method,
            request.url.path,
            content=await request.body(),
            headers={"Content-Type": request.headers.get("Content-Type", "application/json")},
        )
    except httpx.TransportError:
        return JSONResponse({"error": "backend unavailable"}, 502)
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("Content-Type"))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    token = os.environ["API_TOKEN"]
    async with httpx.AsyncClient(
        base_url=os.environ["BACKEND_URL"], headers={"Authorization": f"Bearer {token}"}, trust_env=False
    ) as app.state.backend:
        yield


app = Starlette(
    routes=[
        Route("/", page),
        Route("/conversations/{conversation:int}", page),
        Route("/version.json", version),
        Route("/favicon.svg", favicon),
        Route("/media/{name}", picture),
        Route("/api/{path:path}", api, methods=["GET", "POST"]),
        Mount("/assets", StaticFiles(directory=DIST / "assets", check_dir=False)),
    ],
    lifespan=lifespan,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stdout,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app.state.version = built_version()
    logger.info("frontend version %s started", app.state.version)
    uvicorn.run(app, port=parser.parse_args().port, log_config=None, timeout_graceful_shutdown=3)


if __name__ == "__main__":
    main()
