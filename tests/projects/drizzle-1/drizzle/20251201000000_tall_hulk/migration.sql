ALTER TABLE products ADD name text;
