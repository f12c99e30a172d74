"""Orders"""

import sqlalchemy as sa
from alembic import op

revision = "3f2a9c1e7b50"
down_revision = None


def upgrade():
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("total_cents", sa.Integer, nullable=False),
        sa.Column("voucher", sa.Text),
    )


def downgrade():
    op.drop_table("orders")
