import express from "express";
import { pool } from "./database.js";
import { log } from "./log.js";
import { version } from "./version.js";

const SHOWN = [
  "id",
  "address",
  "size",
  'sent_at AS "sentAt"',
  "weight_grams AS weight",
].join(", ");
const app = express();
app.use(express.json());

app.get("/health", async (request, response) => {
  await pool.query("SELECT 1");
  response.json({ status: "up", version });
});

app.get("/parcels", async (request, response) => {
  const { rows } = await pool.query(`SELECT ${SHOWN} FROM parcels ORDER BY id`);
  response.json({ parcels: rows });
});

app.post("/parcels", async (request, response) => {
  const { address, size, weight } = request.body;
  const sql = `INSERT INTO parcels (address, size, weight_grams) VALUES ($1, $2, $3) RETURNING ${SHOWN}`;
  const { rows } = await pool.query(sql, [address, size, weight]);
  response.status(201).json(rows[0]);
});

const server = app.listen(Number(process.env.PORT), "127.0.0.1", () => log("info", `api version ${version} started`));
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    server.close(async () => {
      await pool.end();
      process.exit(0);
    });
    server.closeIdleConnections();
  });
}
