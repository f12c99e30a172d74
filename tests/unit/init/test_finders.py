"""What each finder reads of a team's repository."""

from collections.abc import Mapping
from typing import Any

import pytest

from runbook_lib.init.finders import look
from runbook_lib.init.found import Folder, Migrations, Service

from .conftest import Made

COMPOSE = """
services:
  api: {build: ., ports: ["127.0.0.1:${API_PORT:-8080}:3000"]}
  db: {image: "postgres:18", environment: {POSTGRES_USER: shop}}
"""
ECOSYSTEM = """
module.exports = { apps: [
  { name: "api", script: "dist/api.js", env: { PORT: 3000 } },
  { name: 'worker', script: 'dist/worker.js' },
] };
"""
API, WORKER = Service("api", "node dist/api.js", 3000), Service("worker", "node dist/worker.js")
DOCKERFILE = 'EXPOSE 8000\nCMD ["serve", "--all"]\n'
NOTHING = {"compose.yaml": "services: [", "package.json": "{", "Makefile": "build := 1\n", "manage.py": "import this"}
SCHEMA = 'datasource db {\n  provider = "postgresql"\n  url = env("DATABASE_URL")\n}\n'
ALEMBIC = Migrations("alembic", "db/versions", ["alembic", "upgrade", "head"], ["alembic", "upgrade", "{version}"])
PRISMA = Migrations("prisma", "prisma/migrations", ["npx", "prisma", "migrate", "deploy"])
DJANGO = Migrations("django", "shop/migrations", ["python", "manage.py", "migrate"])
BELOW = {"backend/package.json": '{"scripts": {"build": "tsc"}}', "backend/package-lock.json": "{}"}
SECRET = "DATABASE_URL=postgresql+psycopg://shop:p4ssw0rd@db/shop\nPORT=8000\n"


@pytest.mark.parametrize(
    ("files", "where", "said"),
    [
        ({"compose.yaml": COMPOSE}, "compose.yaml", {"services": [Service("api", port=8080)], "unmanaged": ["db"]}),
        ({"compose.yml": COMPOSE.replace("127.0.0.1:", "")}, "compose.yml", {"services": [Service("api", port=8080)]}),
        ({"docker-compose.yml": COMPOSE}, "docker-compose.yml", {"role": "shop", "manager": "docker-compose"}),
        ({"ecosystem.config.cjs": ECOSYSTEM}, "ecosystem.config.cjs", {"services": [API, WORKER]}),
        ({"Procfile": "release: ./migrate\nweb: serve $PORT\n"}, "Procfile", {"services": [Service("web", "serve $PORT")]}),
        ({"package.json": "{}", "yarn.lock": ""}, "package.json", {"install": ["yarn", "install", "--frozen-lockfile"]}),
        (BELOW, "backend/package.json", {"install": ["sh", "-c", "cd backend && npm ci"]}),
        (BELOW, "backend/package.json", {"build": ["sh", "-c", "cd backend && npm run build"]}),
        ({"pyproject.toml": "", "uv.lock": ""}, "uv.lock", {"install": ["uv", "sync", "--frozen"]}),
        ({"Makefile": "build: a.c\n\tcc a.c\n"}, "Makefile", {"build": ["make", "build"]}),
        ({"Dockerfile": DOCKERFILE}, "Dockerfile", {"services": [Service("app", "serve --all", 8000)]}),
        ({".env.example": SECRET}, ".env.example", {"role": "shop", "port": 8000, "database_variable": "DATABASE_URL"}),
        ({"alembic.ini": "[alembic]\nscript_location = %(here)s/db\n"}, "alembic.ini", {"migrations": ALEMBIC}),
        ({"prisma/schema.prisma": SCHEMA}, "prisma/schema.prisma", {"migrations": PRISMA, "variables": ["DATABASE_URL"]}),
        ({"manage.py": "import django", "shop/migrations/__init__.py": ""}, "manage.py", {"migrations": DJANGO}),
    ],
)  # fmt: skip
def test_a_file_says_what_it_says(repository: Made, files: Mapping[str, str], where: str, said: Mapping[str, Any]) -> None:
    (found,) = look(Folder(repository(files)))

    assert found.where == where
    assert {key: getattr(found, key) for key in said} == said


@pytest.mark.parametrize(
    "files",
    [{}, NOTHING, {"node_modules/package.json": '{"scripts": {"start": "x"}}'}],
)
def test_a_file_that_says_nothing_is_not_found(repository: Made, files: Mapping[str, str]) -> None:
    assert look(Folder(repository(files))) == []


def test_a_finder_keeps_no_value_of_an_example_that_may_be_secret(repository: Made) -> None:
    assert "p4ssw0rd" not in repr(look(Folder(repository({".env.example": SECRET}))))
