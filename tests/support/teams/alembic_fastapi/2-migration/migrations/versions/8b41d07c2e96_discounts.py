"""Discounts: the percentage that a voucher such as SAVE10 stands for, in a column of its own"""

import sqlalchemy as sa
from alembic import op

revision = "8b41d07c2e96"
down_revision = "3f2a9c1e7b50"


def upgrade():
    op.add_column("orders", sa.Column("discount_percent", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE orders SET discount_percent = substring(voucher from '[0-9]+$')::int WHERE voucher ~ '^SAVE[0-9]+$'")
    op.create_index("orders_customer", "orders", ["customer"])


def downgrade():
    op.drop_index("orders_customer")
    op.drop_column("orders", "discount_percent")
