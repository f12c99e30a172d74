module.exports = class Fees1762168469000 {
  async up(queryRunner) {
    await queryRunner.query("ALTER TABLE products ADD fee int");
  }
  async down() {}
};
