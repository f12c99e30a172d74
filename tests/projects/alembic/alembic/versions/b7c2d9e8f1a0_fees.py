from alembic import op

revision: str = "b7c2d9e8f1a0"
down_revision: str | None = "1f0c5d2ab3e4"


def upgrade():
    op.execute("ALTER TABLE products ADD fee int")
