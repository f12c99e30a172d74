"""Lock files: where package managers record exactly what they install."""

from fnmatch import fnmatchcase

from runbook_lib.git.command import BYTES, Git

NAMES = (
    *("package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb", "deno.lock"),
    *("requirements*.txt", "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock*.toml", "conda-lock.yml"),
    *("Gemfile.lock", "go.sum", "Cargo.lock", "composer.lock", "mix.lock", "packages.lock.json", "pubspec.lock"),
    *("gradle.lockfile", "Package.resolved", "Podfile.lock", "flake.lock"),
)


def lock_files(git: Git, commit: str) -> dict[str, str]:
    """Map each lock file of a commit to git's id of its content. Read-only."""
    listed = git("ls-tree", "-r", "-z", "--full-tree", commit, encoding=BYTES).output
    split = (line.split("\t", 1) for line in listed.split("\0") if line)
    files = {path.encode(BYTES).decode("utf-8", "replace"): head.split(" ")[2] for head, path in split}
    return {path: blob for path, blob in files.items() if any(fnmatchcase(path.rpartition("/")[2], name) for name in NAMES)}
