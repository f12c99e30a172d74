module.exports = { up: (q) => q.sequelize.query("ALTER TABLE products ADD fee int"), down: async () => {} };
