import { readFileSync } from "node:fs";

export const { version } = JSON.parse(readFileSync(new URL("version.json", import.meta.url)));
