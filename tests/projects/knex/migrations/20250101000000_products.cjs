exports.up = (knex) => knex.raw("CREATE TABLE products (id int PRIMARY KEY)");
exports.down = () => {};
