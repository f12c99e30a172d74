"""The HTTP API."""

import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import messages
import psycopg
from access_log import AccessLog
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from version import VERSION

TOKEN = os.environ["API_TOKEN"]

pool: AsyncConnectionPool[psycopg.AsyncConnection[DictRow]] = AsyncConnectionPool(
    kwargs={"row_factory": dict_row},
    min_size=1,
    max_size=8,
    timeout=1.0,
    reconnect_timeout=2,
    check=AsyncConnectionPool.check_connection,
    open=False,
)


async def health(request: Request) -> JSONResponse:
    try:
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
    except (psycopg.OperationalError, PoolTimeout):
        return JSONResponse({"status": "database unavailable", "version": VERSION}, 503)
    return JSONResponse({"status": "ok", "version": VERSION})


async def list_conversations(request: Request) -> JSONResponse:
    authorise(request)
    async with pool.connection() as connection:
        return JSONResponse({"conversations": await messages.conversations(connection)})


async def list_messages(request: Request) -> JSONResponse:
    authorise(request)
    async with pool.connection() as connection:
        conversation = await known_conversation(request, connection)
        return JSONResponse({"messages": await messages.thread(connection, conversation)})


async def add_message(request: Request) -> JSONResponse:
    authorise(request)
    try:
        body = await request.json()
    except ValueError:
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(body, dict) or not isinstance(body.get("content"), str):
        raise HTTPException(400, "content is missing")
    async with pool.connection() as connection:
        conversation = await known_conversation(request, connection)
        return JSONResponse(await messages.add(connection, conversation, body), 201)


def authorise(request: Request) -> None:
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {TOKEN}".encode()):
        raise HTTPException(401, "a valid bearer token is needed")


async def known_conversation(request: Request, connection: psycopg.AsyncConnection[DictRow]) -> int:
    conversation: int = request.path_params["conversation"]
    if not await messages.exists(connection, conversation):
        raise HTTPException(404, "no such conversation")
    return conversation


async def refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def unavailable(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "database unavailable"}, 503)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    await pool.open()
    yield
    await pool.close()


app = Starlette(
    routes=[
        Route("/health", health),
        Route("/api/messaging/conversations", list_conversations),
        Route("/api/messaging/conversations/{conversation:int}/messages", list_messages),
        Route("/api/messaging/conversations/{conversation:int}/messages", add_message, methods=["POST"]),
    ],
    middleware=[Middleware(AccessLog)],
    exception_handlers={
        HTTPException: refused,
        psycopg.OperationalError: unavailable,
        PoolTimeout: unavailable,
    },
    lifespan=lifespan,
)
