"""Whether a page shows what is stored, when its addresses are written in other ways; truth is never turned round."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from runbook_lib.browser import Media
from runbook_lib.checks.media import compared, paired
from runbook_lib.config.plan.media_rules import MediaRule, Rule

PAGE = "https://shop.test/threads/7"
SITE = "https://shop.test"
ONE, TWO = "/media/000003.svg", "/media/000006.svg"
NEXT: dict[str, Any] = {"kind": "next_image"}
SIGNED: dict[str, Any] = {"kind": "signed"}
CDN: dict[str, Any] = {"kind": "prefix", "shown": "https://cdn.test/v2/", "stored": "/"}
RULE = TypeAdapter(MediaRule)

S3 = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2F1&X-Amz-Date=1&X-Amz-Expires=9&X-Amz-Signature=ab&x-id=GetObject"
CLOUDFRONT = "Expires=1&Signature=ab~&Key-Pair-Id=K1"
GCS = "GoogleAccessId=a&Expires=1&Signature=ab%3D"
AZURE = "sv=2024-01-01&se=2025-01-01&sr=b&sp=r&sig=ab%3D"


def rules(*of: dict[str, Any]) -> list[Rule]:
    return [RULE.validate_python(each) for each in of]


def optimised(url: str) -> str:
    return f"{SITE}/_next/image?url={quote(url, safe='')}&w=640&q=75"


def shown(*urls: str) -> list[Media]:
    return [Media(url, True, 8) for url in urls]


def found(stored: list[str], media: list[Media], of: list[Rule] | None) -> str:
    return str(compared(stored, media, PAGE, of).status)


@pytest.mark.parametrize(
    ("urls", "of"),
    [
        pytest.param([SITE + ONE, SITE + TWO], None, id="as stored"),
        pytest.param([SITE + ONE, SITE + TWO, "https://ads.test/x.png"], None, id="and another"),
        pytest.param([optimised(ONE), optimised(TWO)], rules(NEXT), id="next/image"),
        pytest.param([optimised(ONE), SITE + TWO], rules(NEXT), id="next/image leaves some as they are"),
        *(
            pytest.param([f"{SITE}{ONE}?{query}", f"{SITE}{TWO}?{query}"], rules(SIGNED), id=name)
            for name, query in {"S3": S3, "CloudFront": CLOUDFRONT, "GCS": GCS, "Azure": AZURE}.items()
        ),
        pytest.param([f"https://cdn.test/v2{ONE}", f"https://cdn.test/v2{TWO}"], rules(CDN), id="CDN"),
        pytest.param(
            [optimised(f"https://cdn.test/v2{url}?{S3}") for url in (ONE, TWO)], rules(NEXT, SIGNED, CDN), id="all three"
        ),
        pytest.param(
            [f"{SITE}/img/w_200/000003.webp", f"{SITE}/img/w_200/000006.webp"],
            rules({"kind": "replace", "pattern": r"^.*/img/w_\d+/(\d+)\.webp$", "by": r"/media/\1.svg"}),
            id="regular expression",
        ),
        pytest.param([f"https://SHOP.test:443{ONE}#x", SITE + TWO], None, id="port, case and fragment"),
    ],
)
def test_what_is_shown_passes(urls: list[str], of: list[Rule] | None) -> None:
    assert found([ONE, TWO], shown(*urls), of) == "PASS"


@pytest.mark.parametrize("stored", ["/my pictures/é 1.png", "/my%20pictures/%C3%A9%201.png"])
@pytest.mark.parametrize("seen", ["/my%20pictures/%c3%a9%201.png", "/my pictures/é 1.png"])
def test_an_address_is_the_same_however_it_is_encoded(stored: str, seen: str) -> None:
    assert found([stored], shown(SITE + seen), None) == "PASS"


def test_a_picture_in_other_sizes_is_the_same() -> None:
    media = [Media(f"{SITE}/media/3-640.webp", True, 640, (SITE + ONE, f"{SITE}/media/3-1280.webp"))]

    assert found([ONE], media, []) == "PASS"


@pytest.mark.parametrize(
    ("urls", "of", "said"),
    [
        pytest.param([optimised(ONE), optimised(TWO)], None, "{kind: next_image}", id="next/image"),
        pytest.param([SITE + ONE, optimised(TWO)], None, "{kind: next_image}", id="one of two by next/image"),
        pytest.param([f"{SITE}{ONE}?{S3}", f"{SITE}{TWO}?{S3}"], None, "{kind: signed}", id="signed"),
        pytest.param([f"https://cdn.test/v2{ONE}", f"https://cdn.test/v2{TWO}"], None, "has the same file name", id="CDN"),
        pytest.param(["https://cdn.test/a1", "https://cdn.test/b2"], None, "in another form", id="by an id"),
        pytest.param([SITE + ONE, "https://cdn.test/b2"], None, "in another form", id="one of two by an id"),
        pytest.param(["blob:https://shop.test/1", "blob:https://shop.test/2"], None, "in another form", id="blob"),
        pytest.param(
            [f"https://cdn.test/v2{ONE}", f"https://cdn.test/v2{TWO}"], rules(NEXT), "has the same file name", id="wrong"
        ),
    ],
)
def test_what_no_rule_explains_is_unknown_and_named(urls: list[str], of: list[Rule] | None, said: str) -> None:
    result = compared([ONE, TWO], shown(*urls), PAGE, of)

    assert (result.status, said in result.text, "page.media_rules" in result.text) == ("UNKNOWN", True, True)
    assert TWO in result.text or ONE in result.text
    assert any(url[:60] in result.text for url in urls)


@pytest.mark.parametrize(
    ("urls", "of"),
    [
        pytest.param([], None, id="none at all"),
        pytest.param([""], None, id="an element without an address"),
        pytest.param([SITE + ONE], None, id="one of two"),
        pytest.param([SITE + ONE, f"{SITE}/media/000009.svg"], None, id="another of the same kind"),
        pytest.param([optimised(ONE)], rules(NEXT), id="one of two by a rule"),
        pytest.param([optimised(ONE), "https://ads.test/x.png"], rules(NEXT), id="one of two by a rule, and another"),
        pytest.param(["https://ads.test/x.png"], [], id="another, where they are shown as stored"),
        pytest.param(
            [f"https://cdn.test/v2{ONE}", "https://cdn.test/v2/media/000009.svg"], rules(CDN), id="another by a rule"
        ),
    ],
)
def test_what_is_not_shown_fails(urls: list[str], of: list[Rule] | None) -> None:
    assert found([ONE, TWO], shown(*urls), of) == "FAIL"


def test_one_of_several_rows_with_the_same_picture_is_not_taken_for_all() -> None:
    assert found([ONE, ONE], shown(SITE + ONE), None) == "UNKNOWN"
    assert found([ONE, ONE], shown(SITE + ONE, SITE + ONE), None) == "PASS"


def test_a_rule_that_makes_two_pictures_one_shows_nothing() -> None:
    of = rules({"kind": "replace", "pattern": r"\d+", "by": "1"})

    assert found([ONE, TWO], shown(SITE + ONE, SITE + ONE), of) == "UNKNOWN"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"kind": "replace", "pattern": "(", "by": ""}, "no regular expression"),
        ({"kind": "replace", "pattern": ".*", "by": ""}, "must not match an empty text"),
        ({"kind": "replace", "pattern": "a(b)", "by": r"\2"}, "does not fit the pattern"),
        ({"kind": "prefix", "shown": "", "stored": "/"}, "at least 1 character"),
        ({"kind": "nextimage"}, "does not match any of the expected tags"),
    ],
)
def test_a_wrong_rule_is_refused(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RULE.validate_python(rule)


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 7)), max_size=7))
def test_as_many_as_can_be_are_paired(wants: list[set[int]]) -> None:
    left, free = paired(wants, range(8), lambda want, offer: offer in want)

    def most(number: int, taken: frozenset[int]) -> int:
        if number == len(wants):
            return 0
        with_it = [1 + most(number + 1, taken | {offer}) for offer in wants[number] - taken]
        return max([most(number + 1, taken), *with_it])

    assert (len(wants) - len(left), 8 - len(free)) == (most(0, frozenset()),) * 2


WAYS: dict[str, tuple[Callable[[str], str], list[dict[str, Any]]]] = {  # each with the rules that explain it
    "as stored": (lambda url: SITE + url, []),
    "next": (optimised, [NEXT]),
    "signed": (lambda url: f"{SITE}{url}?{S3}", [SIGNED]),
    "cdn": (lambda url: f"https://cdn.test/v2{url}", [CDN]),
    "both": (lambda url: optimised(f"https://cdn.test/v2{url}"), [NEXT, CDN]),
}
UNTOLD = {**WAYS, "id": (lambda url: f"https://images.test/{int(url[7:13]) * 7919:x}", [])}


STORED = st.lists(st.integers(1, 99).map(lambda n: f"/media/{n:06}.png"), min_size=1, max_size=5, unique=True)
KEPT = st.lists(st.booleans(), min_size=5, max_size=5)
OTHERS = st.lists(
    st.sampled_from(["https://ads.test/a.png", f"{SITE}/avatars/b.png", "data:image/gif;base64,R0"]), max_size=2
)


@settings(max_examples=300, deadline=None)
@given(stored=STORED, ways=st.lists(st.sampled_from(sorted(WAYS)), min_size=5, max_size=5), kept=KEPT, others=OTHERS)
def test_with_all_rules_what_is_shown_passes_and_nothing_else(
    stored: list[str], ways: list[str], kept: list[bool], others: list[str]
) -> None:
    urls = [WAYS[way][0](url) for url, way, is_shown in zip(stored, ways, kept, strict=False) if is_shown]

    status = found(stored, shown(*urls, *others), rules(NEXT, SIGNED, CDN))

    assert (status == "PASS") == (len(urls) == len(stored))
    assert status != "UNKNOWN" or others


@settings(max_examples=300, deadline=None)
@given(stored=STORED, ways=st.lists(st.sampled_from(sorted(UNTOLD)), min_size=5, max_size=5), kept=KEPT, others=OTHERS)
def test_without_rules_truth_is_never_turned_round(
    stored: list[str], ways: list[str], kept: list[bool], others: list[str]
) -> None:
    urls = [UNTOLD[way][0](url) for url, way, is_shown in zip(stored, ways, kept, strict=False) if is_shown]

    status = found(stored, shown(*urls, *others), None)

    assert status != ("FAIL" if len(urls) == len(stored) else "PASS")
    if not urls and not others:
        assert status == "FAIL"
