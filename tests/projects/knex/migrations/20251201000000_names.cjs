exports.up = (knex) => knex.raw("ALTER TABLE products ADD name text");
exports.down = () => {};
