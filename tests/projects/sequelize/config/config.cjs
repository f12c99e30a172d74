const { PGHOST: host, PGUSER: username, PGPASSWORD: password, PGDATABASE: database } = process.env;

module.exports = { development: { dialect: "postgres", host, username, password, database } };
