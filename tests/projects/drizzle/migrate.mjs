import { drizzle } from "drizzle-orm/node-postgres";
import { readMigrationFiles } from "drizzle-orm/migrator";
import { migrate } from "drizzle-orm/node-postgres/migrator";
import pg from "pg";

const client = new pg.Client();
await client.connect();
if (process.argv[2] === "status") {
  const { rows } = await client.query("SELECT max(created_at)::bigint AS newest FROM drizzle.__drizzle_migrations");
  const files = readMigrationFiles({ migrationsFolder: "drizzle" });
  console.log(`pending: ${files.filter((file) => file.folderMillis > Number(rows[0].newest)).length}`);
} else {
  await migrate(drizzle(client), { migrationsFolder: "drizzle" });
}
await client.end();
