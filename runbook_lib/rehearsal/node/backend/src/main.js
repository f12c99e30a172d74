import { app } from "./api.js";
import { isUnavailable, pool } from "./database.js";
import { log } from "./log.js";
import { migrate, MissingMigration } from "./migrate.js";
import { VERSION } from "./version.js";

// Starts the API: migrations first, then requests.
log.info(`backend version ${VERSION} started`);
try {
  await migrate();
} catch (error) {
  if (error instanceof MissingMigration) {
    log.error(`refusing to start: ${error.message}`);
    process.exit(3);
  }
  if (!isUnavailable(error)) throw error;
  log.warn(`database unavailable, migrations not checked: ${error.message}`);
}
const server = app.listen(Number(process.env.PORT), "127.0.0.1");
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    server.close(async () => {
      await pool.end();
      process.exit(0);
    });
    server.closeIdleConnections();
  });
}
