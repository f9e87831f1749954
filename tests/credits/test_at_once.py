"""One code, 200 attempts at once over HTTP at three server processes: one succeeds. Short: test_redeem."""

import threading
import uuid
from collections import Counter

import pytest
import requests
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

from billing.models import Transfer
from billing.payments import redeem
from portal.models import User
from tests.credits.conftest import UNIT
from tests.kit.gateway import Customer, Gateway

ATTEMPTS, PEOPLE, SERVERS = 200, 25, 3
TOKEN = "t" * 32


def _session(customer: Customer) -> str:
    """A signed-in browser's cookie."""
    user = User.objects.get(email=customer.email)
    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.create()
    return str(store.session_key)


def _code(gateway: Gateway) -> str:
    with gateway.inside():
        root = User.objects.create_superuser("root@example.com", "x")
        wanted = redeem.Wanted(label="one", amount=5 * UNIT, number=1)
        return redeem.make(wanted=wanted, reference=uuid.uuid4(), user=root.pk)[1][0]


@pytest.mark.soak
def test_one_code_and_two_hundred_attempts_at_once(breakable: Gateway) -> None:
    code = _code(breakable)
    people = [breakable.customer(credit="0") for _ in range(PEOPLE)]
    with breakable.inside():
        cookies = [_session(person) for person in people]
    breakable.collect_static()
    servers = breakable.start_each(*({} for _ in range(SERVERS)))
    gate, said, guard = threading.Barrier(ATTEMPTS), [], threading.Lock()

    def attempt(number: int) -> None:
        url = f"{servers[number % SERVERS].url}/wallet/redeem/"
        jar = {"sessionid": cookies[number % PEOPLE], "csrftoken": TOKEN}
        form = {"code": code, "csrfmiddlewaretoken": TOKEN}
        gate.wait()
        answer = requests.post(url, data=form, cookies=jar, allow_redirects=False, timeout=120)
        with guard:
            said.append(answer.status_code)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(ATTEMPTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter(said)
    assert counts[302] == 1, counts
    assert sum(counts.values()) == ATTEMPTS
    assert set(counts) <= {302, 422, 429}, counts
    with breakable.inside():
        (transfer,) = Transfer.objects.filter(kind="redemption")
    balances = [breakable.wallet(person.wallet)["balance"] for person in people]
    assert sorted(balances)[-2:] == [0, 5 * UNIT]
    assert transfer.amount == 5 * UNIT
    assert breakable.audit() == []
