module.exports = { up: (q) => q.sequelize.query("CREATE TABLE products (id int PRIMARY KEY)"), down: async () => {} };
