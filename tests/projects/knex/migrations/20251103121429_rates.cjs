exports.up = (knex) => knex.raw("ALTER TABLE products ADD rate int");
exports.down = () => {};
