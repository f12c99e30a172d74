ALTER TABLE products DROP fee;
