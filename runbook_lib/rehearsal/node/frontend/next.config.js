import { execFileSync } from "node:child_process";
import { PHASE_PRODUCTION_BUILD } from "next/constants.js";

const built = () => {
  const version = execFileSync("git", ["rev-parse", "HEAD"], { encoding: "utf8" }).trim();
  return { env: { VERSION: version.slice(0, 12) }, generateBuildId: () => version };
};

if (!process.env.NEXT_PUBLIC_PRODUCT) throw new Error("NEXT_PUBLIC_PRODUCT is not set: define it in .env.");

export default (phase) => ({
  ...(phase === PHASE_PRODUCTION_BUILD ? built() : {}),
  output: process.env.BUILD_STANDALONE ? "standalone" : undefined,
  outputFileTracingRoot: import.meta.dirname,
  turbopack: { root: import.meta.dirname },
  poweredByHeader: false,
  images: { dangerouslyAllowSVG: true },
});
