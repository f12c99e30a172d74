import { pool } from "./database.js";

// Messages as the database stores them and as the API shows them.
const COLUMNS = `
  id,
  content,
  media_type,
  media_url,
  created_at
`;

function shown(row) {
  return {
    id: row.id,
    content: row.content,
    mediaType: row.media_type,
    mediaUrl: row.media_url,
    createdAt: row.created_at,
  };
}

export async function conversations() {
  const { rows } = await pool.query("SELECT id, title FROM conversations ORDER BY id LIMIT 20");
  return rows;
}

export async function exists(conversation) {
  const { rowCount } = await pool.query("SELECT 1 FROM conversations WHERE id = $1", [conversation]);
  return rowCount === 1;
}

export async function thread(conversation) {
  const query = `SELECT ${COLUMNS} FROM messages WHERE conversation_id = $1 ORDER BY id`;
  const { rows } = await pool.query(query, [conversation]);
  return rows.map(shown);
}

export async function add(conversation, body) {
  const values = {
    conversation_id: conversation,
    sender_id: body.senderId ?? 1,
    content: body.content,
    media_type: body.mediaType,
    media_url: body.mediaUrl,
  };
  const places = Object.keys(values).map((_, index) => `$${index + 1}`);
  const query = `INSERT INTO messages (${Object.keys(values)}) VALUES (${places}) RETURNING ${COLUMNS}`;
  const { rows } = await pool.query(query, Object.values(values));
  return shown(rows[0]);
}
