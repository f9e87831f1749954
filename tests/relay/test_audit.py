"""The relay's part of the audit: usage records and charges say the same."""

from django.db import connection

from billing import audit
from tests.kit import client
from tests.kit.gateway import Gateway

PLANTED = {
    "UPDATE relay_calllog SET cost = cost + 1": "a resolved hold has its usage record, with the same cost",
    "DELETE FROM relay_calllog": "a resolved hold has its usage record, with the same cost",
    "DELETE FROM billing_hold": "a call that costs has its hold",
    "UPDATE billing_hold SET state = 'review', resolved_at = NULL, charged = 0": "an open hold has no usage record yet",
    "UPDATE relay_calllog SET usage = '{\"input\": 1}'": (
        "a usage record's lines follow from usage and price, and add up to its cost"
    ),
}


def test_a_usage_record_that_differs_from_its_charge_is_found(breakable: Gateway) -> None:
    customer = breakable.customer()
    breakable.start()
    for _ in PLANTED:
        assert client.chat(breakable.url, customer.token).status_code == 200
    assert breakable.audit() == []
    calls = [call["id"] for call in breakable.calls(customer.key)]
    with breakable.inside():
        for call, (statement, promise) in zip(calls, PLANTED.items(), strict=True):
            with connection.cursor() as cursor:
                cursor.execute(f"{statement} WHERE id = %s", [call.hex if breakable.kind == "sqlite" else call])
            found = {finding.check for finding in audit.run() if str(call) in str(finding)}
            assert promise in found, (statement, found)
