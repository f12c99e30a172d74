"""The disposable stack on which a rollback is rehearsed: PostgreSQL, backend, frontend and worker."""
