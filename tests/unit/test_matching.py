"""How a commit's message names a feature."""

import pytest

from runbook_lib.history.matching import How, Matcher, keys

MATCHER = Matcher("SHOP-41", keys(["PAY-7: refunds"]))


def how(subject: str, body: str = "", *, is_merge: bool = False) -> How | None:
    named = MATCHER.named(subject, body, is_merge=is_merge)
    return named.how if named else None


@pytest.mark.parametrize(
    ("subject", "body", "expected"),
    [
        ("SHOP-41: replies", "", How.SUBJECT),
        ("SHOP-41 replies", "", How.SUBJECT),
        ("shop-41 - replies", "", How.SUBJECT),
        ("SHOP-41", "", How.SUBJECT),
        ("SHOP-41/api: replies", "", How.SUBJECT),
        ("feat: SHOP-41 replies", "", How.SUBJECT),
        ("feat(api)!: Shop-41 replies", "", How.SUBJECT),
        ("WIP: SHOP-41", "", How.SUBJECT),
        ("fixup! SHOP-41: replies", "", How.SUBJECT),
        ("Merged PR 12: SHOP-41 replies", "", How.SUBJECT),
        ("SHOP-41: follow-up to PAY-7", "", How.SUBJECT),
        ("SHOP-41 UTF-8 in replies", "", How.SUBJECT),
        ("feat(SHOP-41): replies", "", How.SCOPE),
        ("fix(SHOP-41)!: replies", "", How.SCOPE),
        ("[SHOP-41] replies", "", How.BRACKETS),
        ("replies (SHOP-41)", "", How.BRACKETS),
        ("feat: replies [SHOP-41] (#12)", "", How.BRACKETS),
        ("replies (fixes SHOP-41)", "", How.BRACKETS),
        ("replies (#12, SHOP-41)", "", How.BRACKETS),
        ("replies", "Refs: SHOP-41", How.TRAILER),
        ("replies", "More of it.\n\nJira: https://jira.example.org/browse/SHOP-41", How.TRAILER),
        ("replies", "Closes SHOP-41.", How.TRAILER),
        ("replies", "SHOP-41", How.TRAILER),
        ("Merge branch 'feature/SHOP-41' into 'main'", "", How.BRANCH),  # a squash that bears a merge's message
        ("Squashed commit of the following:", "commit 0123abc\nAuthor: A\nDate: now\n\n    SHOP-41: a\n", How.SQUASH),
        ('Revert "SHOP-41: replies"', "", How.REVERTS),
        ('Reapply "SHOP-41: replies"', "", How.REVERTS),
        ("revert: SHOP-41 replies", "", How.REVERTS),
        ("SHOP-41, PAY-7: shared header", "", How.SEVERAL),
        ("PAY-7/SHOP-41: shared header", "", How.SEVERAL),
        ("SHOP-41 and pay-7: shared header", "", How.SEVERAL),
        ("SHOP-41, SHOP-41-B: shared header", "", How.SEVERAL),
        ("[SHOP-41][PAY-7] shared header", "", How.SEVERAL),
        ("feat(SHOP-41, PAY-7): shared header", "", How.SEVERAL),
        ("PAY-7: refunds (SHOP-41)", "", How.SEVERAL),
        ("PAY-7: refunds", "Refs: SHOP-41", How.SEVERAL),
        ("shared header", "Refs: SHOP-41, PAY-7", How.SEVERAL),
        ("PAY-7: adapt to SHOP-41", "", How.MENTION),
        ("Update what SHOP-41 left", "", How.MENTION),
        ("replies (see SHOP-41)", "", How.MENTION),
        ("SEC-9: check tokens", "Found while reviewing SHOP-41; unrelated.", How.MENTION),
        ("chore(release): 1.4.0", "- SHOP-41 replies\n- PAY-7 refunds", How.MENTION),
        ("tidy up", "Note: found in SHOP-41", How.MENTION),
        ("tidy up", "See-also: SHOP-41", How.MENTION),
        ("tidy up", "Depends-on: SHOP-41", How.MENTION),
        ("Merge branch 'main' into feature/SHOP-41", "", How.MENTION),  # no merge: others' work in one commit
        ("SHOP-410: cards", "", None),
        ("SHOP-4: cards", "", None),
        ("XSHOP-41: cards", "", None),
        ("SHOP-41-B: cards", "", None),
        ("SHOP-41_b cards", "", None),
        ("SHOP-41.2 cards", "", None),
        ("X-SHOP-41 cards", "", None),
        ("Merge branch 'feature/SHOP-410'", "", None),
    ],
)
def test_a_commit_is_named_as_a_whole_word_or_asked_about(subject: str, body: str, expected: How | None) -> None:
    assert how(subject, body) == expected


@pytest.mark.parametrize(
    ("subject", "body", "expected", "is_source"),
    [
        ("Merge branch 'feature/SHOP-41'", "", How.BRANCH, True),
        ("Merge branch 'feature/shop-41-replies' into develop", "", How.BRANCH, True),
        ("Merge remote-tracking branch 'origin/SHOP-41'", "", How.BRANCH, True),
        ("Merge pull request #12 from acme/feature/SHOP-41", "", How.BRANCH, True),
        ("Merge pull request #12 from acme/topic", "SHOP-41: replies", How.SUBJECT, True),
        ("Merged in feature/SHOP-41 (pull request #3)", "", How.BRANCH, True),
        ("Merge SHOP-41 into main", "", How.BRANCH, True),
        ("Merge branch 'main' into feature/SHOP-41", "", How.BRANCH, False),
        ("Merge branch 'main' of example.org:acme/shop into 'SHOP-41'", "", How.BRANCH, False),
        ("Merge branches 'feature/SHOP-41' and 'feature/PAY-7'", "", How.SEVERAL, True),
        ("Merge branch 'wip'", "SHOP-41", How.TRAILER, True),
        ("SHOP-41: merge what is ready", "", How.SUBJECT, True),
        ("Release 1.4.0", "- SHOP-41 replies", How.MENTION, False),
        ("Merge branch 'feature/SHOP-410'", "", None, False),
        ("Merge branch 'feature/SHOP-41-B'", "", None, False),
        ("Merge branch 'feature/SHOP-41-2'", "", None, False),
        ("Merge branch 'XSHOP-41'", "", None, False),
        ("Merge branch 'release/1.16'", "- SHOP-41 replies\n- PAY-7 refunds", How.MENTION, False),
        ("Merge branch 'release/1.16'", "* SHOP-41 replies", How.MENTION, False),
        ("Merge branch 'release/1.16'", "SHOP-41 replies\nPAY-7 refunds", How.MENTION, False),
        ("Release 1.4.0", "1. PAY-7: refunds\n2. SHOP-41: replies", How.MENTION, False),
    ],
)
def test_a_merge_is_named_by_its_branches(subject: str, body: str, expected: How | None, is_source: bool) -> None:
    assert how(subject, body, is_merge=True) == expected
    assert MATCHER.source(subject, body) == is_source


@pytest.mark.parametrize(
    ("feature", "subject", "expected"),
    [
        ("#123", "Replies (#123)", How.BRACKETS),
        ("#123", "Replies (#1234)", None),
        ("dark-mode", "dark-mode: add it", How.SUBJECT),
        ("dark-mode", "dark-mode-2: add it", None),
        ("FEAT-2025-20251103", "FEAT-2025-20251103: add it", How.SUBJECT),
        ("FEAT-2025", "FEAT-2025-20251103: add it", None),
        ("A+B(1)", "A+B(1): add it", How.SUBJECT),
    ],
)
def test_an_id_may_be_of_any_shape(feature: str, subject: str, expected: How | None) -> None:
    named = Matcher(feature).named(subject, "")

    assert (named.how if named else None) == expected
