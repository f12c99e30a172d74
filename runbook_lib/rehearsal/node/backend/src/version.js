import { readFileSync } from "node:fs";

// The commit this build was made from.
export const VERSION = JSON.parse(readFileSync(new URL("version.json", import.meta.url))).version.slice(0, 12);
