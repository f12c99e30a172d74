import { setTimeout } from "node:timers/promises";
import { pool } from "./database.js";
import { log } from "./log.js";
import { VERSION } from "./version.js";

const INTERVAL = 500; // milliseconds
const HEARTBEAT = `
  INSERT INTO worker_heartbeats (worker, version, seen_at) VALUES ('worker', $1, clock_timestamp())
  ON CONFLICT (worker) DO UPDATE SET version = excluded.version, seen_at = excluded.seen_at
`;

// Keeps telling the database that it lives, and which version it is.
log.info(`worker version ${VERSION} started`);
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(0));
for (;;) {
  try {
    await pool.query(HEARTBEAT, [VERSION]);
  } catch (error) {
    log.warn(`no heartbeat written, trying again: ${error.message}`);
  }
  await setTimeout(INTERVAL);
}
