// Makes dist/: the application, its migrations and the version they come from.
import { execFileSync } from "node:child_process";
import { cpSync, renameSync, rmSync, writeFileSync } from "node:fs";

const version = execFileSync("git", ["rev-parse", "HEAD"], { encoding: "utf8" }).trim();
rmSync("dist.new", { recursive: true, force: true });
cpSync("src", "dist.new", { recursive: true });
cpSync("migrations", "dist.new/migrations", { recursive: true });
writeFileSync("dist.new/version.json", JSON.stringify({ version }));
rmSync("dist", { recursive: true, force: true });
renameSync("dist.new", "dist");
