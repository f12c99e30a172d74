"""An answer's fields must be there, in each element of its lists."""

import pytest

from runbook_lib.checks import CheckContext
from runbook_lib.checks.http import HttpKeys
from runbook_lib.system.http import Answer, MemoryHttp

from ...support.checking import check, given

ORDERS = '{"page": null, "orders": [{"id": 1, "total": null}, {"id": 2}]}'


@pytest.mark.parametrize(
    ("body", "field", "status", "said"),
    [
        (ORDERS, "orders[].id", "PASS", "and orders[].id as expected"),
        (ORDERS, "page", "PASS", "and page as expected"),
        (ORDERS, "orders[].total", "FAIL", "orders[].total is missing in 1 of 2"),
        (ORDERS, "lines[].id", "FAIL", "lines[].id is missing"),
        ('{"orders": []}', "orders[].id", "UNKNOWN", "no element that could have orders[].id"),
        ("<h1>Shop</h1>", "id", "FAIL", "it is not JSON"),
    ],
)
def test_a_field_must_be_in_each_element(checked: CheckContext, body: str, field: str, status: str, said: str) -> None:
    given(checked.context, http=MemoryHttp(lambda url, token: Answer.of(200, body)))
    spec = HttpKeys.model_validate({"kind": "http", "title": "Answers", "url": "http://shop.test/orders", "fields": [field]})
    checked.context.plan = checked.context.plan.model_copy(update={"checks": {"own": spec}})

    found = check(checked, "own")

    assert (found.status, said in found.summary) == (status, True), found.summary
