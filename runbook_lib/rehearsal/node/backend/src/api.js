import { createHash, timingSafeEqual } from "node:crypto";
import express from "express";
import { accessLog } from "./access-log.js";
import { isUnavailable, pool } from "./database.js";
import * as messages from "./messages.js";
import { VERSION } from "./version.js";

const digest = (text) => createHash("sha256").update(text).digest();
const EXPECTED = digest(`Bearer ${process.env.API_TOKEN}`);

function authorise(request, response, next) {
  const given = digest(request.get("Authorization") ?? "");
  if (timingSafeEqual(given, EXPECTED)) return next();
  return response.status(401).json({ error: "a valid bearer token is needed" });
}

async function known(request, response, next) {
  if (/^\d+$/.test(request.params.conversation) && (await messages.exists(request.params.conversation))) return next();
  return response.status(404).json({ error: "no such conversation" });
}

export const app = express();
app.disable("x-powered-by");
app.use(accessLog);
app.use(express.json());

app.get("/health", async (request, response) => {
  try {
    await pool.query("SELECT 1");
    response.json({ status: "ok", version: VERSION });
  } catch {
    response.status(503).json({ status: "database unavailable", version: VERSION });
  }
});

const THREAD = "/api/messaging/conversations/:conversation/messages";
app.get("/api/messaging/conversations", authorise, async (request, response) => {
  response.json({ conversations: await messages.conversations() });
});
app.get(THREAD, authorise, known, async (request, response) => {
  response.json({ messages: await messages.thread(request.params.conversation) });
});
app.post(THREAD, authorise, known, async (request, response) => {
  if (typeof request.body?.content !== "string") return response.status(400).json({ error: "content is missing" });
  return response.status(201).json(await messages.add(request.params.conversation, request.body));
});

app.use((error, request, response, next) => {
  if (response.headersSent) return next(error);
  if (error.status) return response.status(error.status).json({ error: error.message });
  if (isUnavailable(error)) return response.status(503).json({ error: "database unavailable" });
  request.log.error(error);
  return response.status(500).json({ error: "internal error" });
});
