from alembic import op

revision = "1f0c5d2ab3e4"
down_revision = None


def upgrade():
    op.execute("CREATE TABLE products (id int PRIMARY KEY)")
