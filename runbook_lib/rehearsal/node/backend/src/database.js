import pg from "pg";
import { log } from "./log.js";

export const pool = new pg.Pool({ max: 8, connectionTimeoutMillis: 1000 });
pool.on("error", (error) => log.warn(`an idle connection was lost: ${error.message}`));

// Whether the database itself is out of reach, which is no fault of the request.
export function isUnavailable(error) {
  return !error.code || ["ECONNREFUSED", "ECONNRESET", "ENOENT", "EPIPE"].includes(error.code) || /^(57P|08)/.test(error.code);
}
