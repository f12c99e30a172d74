import { readMigrationFiles } from "drizzle-orm-1/migrator";
import { drizzle } from "drizzle-orm-1/node-postgres";
import { migrate } from "drizzle-orm-1/node-postgres/migrator";
import pg from "pg";

const client = new pg.Client();
await client.connect();
if (process.argv[2] === "status") {
  const { rows } = await client.query("SELECT name FROM drizzle.__drizzle_migrations");
  const applied = rows.map((row) => row.name);
  const files = readMigrationFiles({ migrationsFolder: "drizzle" });
  console.log(`pending: ${files.filter((file) => !applied.includes(file.name)).map((file) => file.name)}`);
} else {
  await migrate(drizzle({ client }), { migrationsFolder: "drizzle" });
}
await client.end();
