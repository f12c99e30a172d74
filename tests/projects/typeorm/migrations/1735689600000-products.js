module.exports = class Products1735689600000 {
  async up(queryRunner) {
    await queryRunner.query("CREATE TABLE products (id int PRIMARY KEY)");
  }
  async down() {}
};
