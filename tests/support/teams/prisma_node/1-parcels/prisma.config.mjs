// The engine that Prisma ships as WebAssembly, which needs no download.
import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";

// The engine asks for a column of PostgreSQL's type "name", which the adapter does not know.
class Pool extends pg.Pool {
  async query(...given) {
    const found = await super.query(...given);
    for (const field of found.fields ?? []) if (field.dataTypeID === 19) field.dataTypeID = pg.types.builtins.TEXT;
    return found;
  }
}

// The engine limits the wait for its lock to 10 s, and leaves that timer running once it has the lock.
const { setTimeout } = globalThis;
globalThis.setTimeout = (...given) => {
  const timer = setTimeout(...given);
  if (given[1] >= 10000) timer.unref();
  return timer;
};

export default {
  experimental: { adapter: true },
  engine: "js",
  schema: "prisma/schema.prisma",
  adapter: async () => new PrismaPg(new Pool({ connectionString: process.env.DATABASE_URL, idleTimeoutMillis: 50 }), { disposeExternalPool: true }),
};
