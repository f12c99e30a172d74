// Reports to docker compose which commit the images of services are built from: node scripts/revision.js FILE SERVICE…
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";

const [file, ...services] = process.argv.slice(2);
const REVISION = execFileSync("git", ["rev-parse", "HEAD"], { encoding: "utf8" }).trim();
const built = services.map((name) => [name, { build: { args: { REVISION } } }]);
writeFileSync(file, JSON.stringify({ services: Object.fromEntries(built) }));
