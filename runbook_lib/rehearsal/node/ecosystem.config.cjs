// The services as pm2 runs them. The stack's variables are in the environment of `pm2 start`, the database's are libpq's.
const { REHEARSAL_ROOT, REHEARSAL_BACKEND_PORT, REHEARSAL_BACKEND_URL, REHEARSAL_FRONTEND_PORT, REHEARSAL_API_TOKEN } =
  process.env;
const backend = { cwd: `${REHEARSAL_ROOT}/backend`, kill_timeout: 5000 };

module.exports = {
  apps: [
    { ...backend, name: "backend", script: "dist/main.js", env: { PORT: REHEARSAL_BACKEND_PORT, API_TOKEN: REHEARSAL_API_TOKEN } },
    { ...backend, name: "worker", script: "dist/worker.js" },
    {
      name: "frontend",
      cwd: `${REHEARSAL_ROOT}/frontend`,
      script: "node_modules/next/dist/bin/next",
      args: ["start", "--hostname", "127.0.0.1", "--port", REHEARSAL_FRONTEND_PORT],
      env: { BACKEND_URL: REHEARSAL_BACKEND_URL, API_TOKEN: REHEARSAL_API_TOKEN, NEXT_TELEMETRY_DISABLED: "1" },
    },
  ],
};
