"""Notes of customers"""

import sqlalchemy as sa
from alembic import op

revision = "c5e0a71f4d38"
down_revision = "8b41d07c2e96"


def upgrade():
    op.add_column("orders", sa.Column("note", sa.Text))


def downgrade():
    op.drop_column("orders", "note")
