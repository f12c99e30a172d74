const { DataSource } = require("typeorm");

module.exports = new DataSource({
  type: "postgres",
  host: process.env.PGHOST,
  username: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
  migrations: ["migrations/*.js"],
});
