const common = { cwd: __dirname, kill_timeout: 5000 };

module.exports = {
  apps: [
    { ...common, name: "api", script: "dist/api.js" },
    { ...common, name: "worker", script: "dist/worker.js" },
  ],
};
