UPDATE orders SET fee = -1 WHERE id = 2;
