"""Which words of an answer a draft takes for those of the code from before a feature."""

from runbook_lib.drafting.code import Code
from runbook_lib.git import Checkout
from runbook_lib.history import commits
from runbook_lib.system.processes import LocalProcesses

from ...support.repository import FEATURE, Repository


def test_a_word_that_the_features_own_lines_have_is_not_from_before(repository: Repository) -> None:
    repository.write("api.py", "answer(total)")
    repository.write("plans.md", "next: a fee")
    repository.commit("Answer totals")
    repository.write("api.py", "answer(total)", "answer(fee)")
    repository.commit(f"{FEATURE}: answer fees")
    report = commits.report(repository.path, FEATURE)

    found = Code("shop", Checkout(repository.path, LocalProcesses()), report, ())

    assert {word: found.knew(word) for word in ("total", "fee", "tax")} == {"total": True, "fee": False, "tax": False}
