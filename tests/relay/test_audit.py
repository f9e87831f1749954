"""The relay's part of the audit: usage records and charges say the same."""

from django.db import connection

from tests.kit import client
from tests.kit.gateway import Gateway

PLANTED = [
    "UPDATE relay_calllog SET cost = cost + 1",
    "DELETE FROM relay_calllog",
    "DELETE FROM billing_hold",
    "UPDATE billing_hold SET state = 'review', resolved_at = NULL, charged = 0",
]


def test_a_usage_record_that_differs_from_its_charge_is_found(breakable: Gateway) -> None:
    customer = breakable.customer()
    breakable.start()
    assert client.chat(breakable.url, customer.token).status_code == 200
    assert breakable.audit() == []
    for statement in PLANTED:
        with breakable.inside():
            connection.set_autocommit(False)
            try:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                from relay import audit

                found = [str(finding) for finding in audit.usage_records_equal_charges()]
            finally:
                connection.rollback()
                connection.set_autocommit(True)
        assert found, statement
    assert breakable.audit() == []
