from alembic import op

revision: str = "c8d3e0f9a2b1"
down_revision: str | None = "b7c2d9e8f1a0"


def upgrade():
    op.execute("ALTER TABLE products ADD rate int")
