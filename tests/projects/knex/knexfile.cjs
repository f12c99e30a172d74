module.exports = { client: "pg", connection: {} };
