import { setTimeout } from "node:timers/promises";
import { pool } from "./database.js";
import { log } from "./log.js";
import { version } from "./version.js";

// Sends what waits, one parcel at a time.
const SEND = `
  UPDATE parcels SET sent_at = now()
  WHERE id = (SELECT id FROM parcels WHERE sent_at IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
`;

log("info", `worker version ${version} started`);
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(0));
for (;;) {
  try {
    const { rowCount } = await pool.query(SEND);
    if (rowCount) continue;
  } catch (error) {
    log("error", `nothing sent: ${error.message}`);
  }
  await setTimeout(500);
}
