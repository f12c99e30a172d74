"""Messages as the database stores them and as the API shows them."""

from typing import Any

from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow

COLUMNS = sql.SQL("""
    id,
    content,
    media_type,
    media_url,
    created_at
""")


def shown(row: DictRow) -> dict[str, Any]:
    return {
        "id": row["id"],
        "content": row["content"],
        "mediaType": row["media_type"],
        "mediaUrl": row["media_url"],
        "createdAt": row["created_at"].isoformat(),
    }


async def conversations(connection: AsyncConnection[DictRow]) -> list[DictRow]:
    cursor = await connection.execute("SELECT id, title FROM conversations ORDER BY id LIMIT 20")
    return await cursor.fetchall()


async def exists(connection: AsyncConnection[DictRow], conversation: int) -> bool:
    cursor = await connection.execute("SELECT 1 FROM conversations WHERE id = %s", [conversation])
    return await cursor.fetchone() is not None


async def thread(connection: AsyncConnection[DictRow], conversation: int) -> list[dict[str, Any]]:
    query = sql.SQL("SELECT {} FROM messages WHERE conversation_id = %s ORDER BY id").format(COLUMNS)
    cursor = await connection.execute(query, [conversation])
    return [shown(row) for row in await cursor.fetchall()]


async def add(connection: AsyncConnection[DictRow], conversation: int, body: dict[str, Any]) -> dict[str, Any]:
    values = {
        "conversation_id": conversation,
        "sender_id": body.get("senderId", 1),
        "content": body["content"],
        "media_type": body.get("mediaType"),
        "media_url": body.get("mediaUrl"),
    }
    query = sql.SQL("INSERT INTO messages ({}) VALUES ({}) RETURNING {}").format(
        sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(map(sql.Placeholder, values)), COLUMNS
    )
    cursor = await connection.execute(query, values)
    return shown(await cursor.fetchone() or {})
