exports.up = (knex) => knex.raw("ALTER TABLE products ADD fee int");
exports.down = () => {};
