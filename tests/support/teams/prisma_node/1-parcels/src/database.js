import pg from "pg";
import { log } from "./log.js";

export const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 5 });
pool.on("error", (error) => log("warn", `connection lost: ${error.message}`));
