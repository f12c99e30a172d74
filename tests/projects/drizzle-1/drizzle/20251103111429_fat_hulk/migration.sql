ALTER TABLE products ADD fee int;
