import { readdirSync, readFileSync } from "node:fs";
import { pool } from "./database.js";
import { log } from "./log.js";

const MIGRATIONS = new URL("migrations/", import.meta.url);
const LOCK = 4039;

export class MissingMigration extends Error {}

// Applies the migrations that the database has not seen.
export async function migrate() {
  const files = new Map(readdirSync(MIGRATIONS).sort().map((name) => [name.split("_")[0], name]));
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    await client.query("SELECT pg_advisory_xact_lock($1)", [LOCK]);
    await client.query(`CREATE TABLE IF NOT EXISTS schema_migrations
      (version text PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`);
    const { rows } = await client.query("SELECT version FROM schema_migrations ORDER BY version");
    const applied = rows.map(({ version }) => version);
    const missing = applied.filter((version) => !files.has(version));
    if (missing.length) {
      throw new MissingMigration(`schema_migrations holds ${missing.join(", ")}, but this build has no such file`);
    }
    for (const [version, name] of files) {
      if (applied.includes(version)) continue;
      await client.query(readFileSync(new URL(name, MIGRATIONS), "utf8"));
      const title = name.replace(/^\d+_|\.sql$/g, "");
      await client.query("INSERT INTO schema_migrations (version, name) VALUES ($1, $2)", [version, title]);
      log.info(`applied migration ${name}`);
    }
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}
