"""Notices: found in the tables, told once, brought by e-mail and signed webhooks, whatever fails on the way."""

import datetime as dt
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connections
from django.test import Client
from django.utils import timezone

from billing import budgets, ledger, money
from billing.invoices import closing, standing
from billing.models import Budget, BudgetOwner
from keys import services as keys
from portal.models import Delivery, Notice, NoticeKind, NoticeSettings, User, Webhook
from portal.notices import delivery, finding, telling
from portal.notices.finding import Due
from relay import vault
from relay.channels import egress
from relay.models import Channel
from tests.invoices.made import Past, at
from tests.invoices.receivers import Receiver, Sink, receiver, sink
from tests.portal.conftest import browser

UNIT = money.NANO


@pytest.fixture
def hook(settings: LazySettings) -> Iterator[Receiver]:
    with receiver() as server:
        settings.WEBHOOKS_TO = [server.server]
        yield server


@pytest.fixture
def post(settings: LazySettings) -> Iterator[Sink]:
    with sink() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.server_address[1]
        yield server


def kinds() -> list[str]:
    return list(Notice.objects.order_by("created_at").values_list("kind", flat=True))


def test_a_low_balance_is_told_once_and_again_only_after_it_rose_well_above(books: str) -> None:
    past = Past(limit=0)
    ledger.credit(wallet=past.wallet, amount=10 * UNIT, actor="tests", reason="x")
    NoticeSettings.objects.create(user=past.user, threshold=5 * UNIT)

    def told(change: int) -> int:
        if change:
            ledger.adjust(wallet=past.wallet, amount=change, actor="tests", reason="x")
        return telling.tell_everything()

    assert told(0) == 0  # 10: seen for the first time
    assert told(-5 * UNIT) == 0  # 5 is not below 5
    assert told(-1) == 1
    assert [told(0), told(-UNIT), told(2 * UNIT - 1), told(-2 * UNIT)] == [0, 0, 0, 0]  # 5.999999998 is not 6/5
    assert told(5 * UNIT) == 0  # rose
    assert told(-4 * UNIT) == 1
    assert [notice.occasion for notice in Notice.objects.order_by("created_at")] == ["1", "2"]


def test_a_wallet_that_was_never_full_is_not_told_of(books: str) -> None:
    Past(limit=0)
    assert telling.tell_everything() == telling.tell_everything() == 0


def test_quotas_are_told_at_80_and_at_100_per_cent_of_each_window(books: str) -> None:
    past = Past()
    key = past.keys[0]
    budgets.set_cap(owner=BudgetOwner.KEY, owner_id=key.pk, window="day", cap=100)
    row = Budget.objects.get()

    def told(used: int) -> list[tuple[int, str]]:
        Budget.objects.filter(pk=row.pk).update(used=used)
        before = set(Notice.objects.values_list("pk", flat=True))
        telling.tell_everything()
        new = Notice.objects.exclude(pk__in=before)
        return [(notice.facts["percent"], notice.facts["name"]) for notice in new]

    assert told(79) == []
    assert told(80) == [(80, "agent")]
    assert told(99) == []
    assert told(100) == [(100, "agent")]
    assert told(100) == []
    tomorrow = timezone.now() + dt.timedelta(days=1)
    assert list(finding.quotas(tomorrow)) == []  # the window has ended, nothing is used in the new one


def test_keys_are_told_of_a_week_and_a_day_before_they_expire(books: str) -> None:
    past = Past()
    now = timezone.now()
    key = past.keys[0]
    type(key).objects.filter(pk=key.pk).update(expires_at=now + dt.timedelta(days=8))
    assert [len(list(finding.expiring_keys(now + dt.timedelta(days=days)))) for days in (0, 2, 5, 7, 9)] == [
        0,
        1,
        1,
        1,
        0,
    ]
    occasions = {due.occasion for days in (2, 5, 7) for due in finding.expiring_keys(now + dt.timedelta(days=days))}
    assert len(occasions) == 2
    keys.revoke(key)
    assert list(finding.expiring_keys(now + dt.timedelta(days=5))) == []


def test_an_overdue_invoice_is_told_to_the_owners_and_a_disabled_channel_to_administrators(books: str) -> None:
    past = Past()
    root = User.objects.create_superuser("root@example.com", "x")
    closing.begin(past.wallet, moment=at("2026-03-05 00:00"))
    past.call(2 * UNIT, at("2026-03-06 00:00"))
    closing.close_due(past.wallet, now=at("2026-04-02 00:00"))
    standing.refresh(past.number, timezone.now() + dt.timedelta(days=20))
    Channel.objects.create(
        name="main", base_url="https://api.example.com", disabled_at=timezone.now(), disabled_reason="status 401"
    )
    assert telling.tell_everything() == 2
    assert telling.tell_everything() == 0
    told = {(notice.user.email, notice.kind) for notice in Notice.objects.select_related("user")}
    assert told == {(past.user.email, "invoice_overdue"), (root.email, "channel_disabled")}


def test_workers_that_look_at_once_tell_once(books: str) -> None:
    past = Past()
    facts = {"name": "n", "key": "k", "at": "2026-03-05T00:00:00+00:00"}
    due = Due(NoticeKind.KEY_EXPIRY, "key 1", "x", facts, team=past.team.pk)
    told: list[int] = []
    start = threading.Barrier(4)

    def work() -> None:
        try:
            start.wait()
            told.append(telling.tell(due))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [0, 0, 0, 1]
    assert Delivery.objects.count() == 1


# ---- delivery -------------------------------------------------------------------------------------------------------


def notice_for(past: Past, occasion: str = "1") -> Notice:
    facts = {"team": "a & <b>", "left": UNIT, "threshold": 2 * UNIT}
    assert telling.tell(Due(NoticeKind.LOW_BALANCE, "wallet 1", occasion, facts, user=past.user.pk)) == 1
    return Notice.objects.get(occasion=occasion)


@pytest.mark.parametrize(("language", "subject"), [("en", "Pisces: Low balance"), ("zh-hans", "Pisces: 余额不足")])
def test_a_letter_is_in_the_users_language_in_text_and_html(
    books: str, post: Sink, language: str, subject: str
) -> None:
    past = Past()
    NoticeSettings.objects.create(user=past.user, language=language)
    notice_for(past)
    assert delivery.deliver_due() == 1
    assert delivery.deliver_due() == 0
    ((to, letter),) = post.letters
    assert (to, letter["Subject"]) == (past.user.email, subject)
    text, html = (letter.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    assert "a & <b>" in text.get_content()
    assert "a &amp; &lt;b&gt;" in html.get_content()
    assert "$1.00" in text.get_content()


def test_a_mail_server_that_is_down_is_tried_again(books: str, post: Sink) -> None:
    past = Past()
    notice_for(past)
    post.down = True
    now = timezone.now()
    assert delivery.deliver_due(now) == 0
    assert delivery.deliver_due(now) == 0  # not yet
    assert Delivery.objects.get().attempt == 1
    post.down = False
    assert delivery.deliver_due(now + dt.timedelta(minutes=2)) == 1
    assert len(post.letters) == 1


def test_a_mail_server_that_says_nothing_is_not_waited_for_without_end(books: str, settings: LazySettings) -> None:
    assert 0 < settings.EMAIL_TIMEOUT <= 20
    settings.EMAIL_TIMEOUT = 0.2
    notice_for(Past())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = silent.getsockname()
        assert delivery.deliver_due() == 0
    row = Delivery.objects.get()
    assert (row.state, row.attempt, row.answer) == ("waiting", 1, "SMTPServerDisconnected")


def webhook_of(past: Past, hook: Receiver) -> tuple[Webhook, str]:
    NoticeSettings.objects.update_or_create(user=past.user, defaults={"by_email": False})
    return telling.add_webhook(user=past.user, url=hook.url)


def test_a_webhook_gets_a_signed_body(books: str, hook: Receiver) -> None:
    past = Past()
    webhook, secret = webhook_of(past, hook)
    assert secret.encode() not in bytes(webhook.secret)
    assert vault.decrypt(bytes(webhook.secret), row=webhook.uid) == secret
    notice = notice_for(past)
    assert delivery.deliver_due() == 1
    ((path, headers, body),) = hook.got
    moment, _, signed = headers["Pisces-Signature"].removeprefix("t=").partition(",v1=")
    assert path == "/hook"
    assert signed == delivery.signature(body, secret, int(moment))
    assert signed != delivery.signature(body + b" ", secret, int(moment))
    assert signed != delivery.signature(body, secret, int(moment) + 1)
    told = json.loads(body)
    assert (told["id"], told["kind"], told["facts"]["left"]) == (str(notice.pk), "low_balance", "1")
    assert headers["Pisces-Notice"] == str(notice.pk)
    row = Delivery.objects.get()
    assert (row.state, row.status, row.answer) == ("delivered", 200, "thanks")


def test_a_webhook_that_fails_is_tried_for_a_day_and_then_disabled(books: str, hook: Receiver) -> None:
    past = Past()
    webhook, _ = webhook_of(past, hook)
    notice_for(past)
    hook.status = 500
    now = began = timezone.now()
    while (row := Delivery.objects.get()).state == "waiting":
        now = max(now, row.next_at)
        assert delivery.deliver_due(now) == 0
        assert now < began + dt.timedelta(days=2)
    assert row.state == "failed"
    assert row.status == 500
    assert 6 <= len(hook.got) <= 12
    webhook.refresh_from_db()
    assert webhook.disabled_reason == "status 500"
    notice_for(past, "2")
    assert Delivery.objects.filter(notice__occasion="2").count() == 0  # nothing is sent there any more
    hook.status = 202
    telling.enable_webhook(webhook)
    assert telling.redeliver(row)
    assert delivery.deliver_due(timezone.now()) == 1
    assert Delivery.objects.get(pk=row.pk).status == 202


def test_a_delivery_is_claimed_by_one_worker(books: str, hook: Receiver) -> None:
    past = Past()
    webhook_of(past, hook)
    notice_for(past)
    (row,) = Delivery.objects.all()
    start = threading.Barrier(4)
    done: list[bool] = []

    def work() -> None:
        try:
            start.wait()
            done.append(delivery.deliver(row.pk))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, False, False, True]
    assert len(hook.got) == 1


def test_each_delivery_of_a_long_run_is_claimed_from_when_it_begins(
    books: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for occasion in ("1", "2"):
        notice_for(Past(), occasion)
    claimed: list[bool] = []

    def slow(row: Delivery) -> delivery.Result:
        claimed.append(Delivery.objects.get(pk=row.pk).next_at > timezone.now())
        time.sleep(1.2)
        return delivery.Result(False, None, "")

    monkeypatch.setattr(delivery, "LEASE", dt.timedelta(seconds=1))
    monkeypatch.setattr(delivery, "_send", slow)
    assert delivery.deliver_due() == 0
    assert claimed == [True] * 2


@pytest.mark.parametrize("to", ["hook", "http://127.0.0.1:9/x", "http://169.254.169.254/latest/meta-data"])
def test_redirects_are_not_followed(books: str, hook: Receiver, to: str) -> None:
    past = Past()
    webhook_of(past, hook)
    notice_for(past)
    hook.status, hook.location = 302, hook.url + "2" if to == "hook" else to
    assert delivery.deliver_due() == 0
    assert [path for path, _, _ in hook.got] == ["/hook"]
    assert Delivery.objects.get().status == 302


PRIVATE = [
    "https://127.0.0.1/x", "https://localhost/x", "https://[::1]/x", "https://10.0.0.1/", "https://192.168.1.1/",
    "https://169.254.169.254/latest", "https://0.0.0.0/", "https://127.1/", "https://2130706433/", "https://0x7f.1/",
    "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "http://example.com/", "https://user:x@example.com/",
    "ftp://example.com/", "file:///etc/passwd", "https://", "https://[::1", "https://host:99999/", "x", "",
    "https://127\u30020\u30020\u30021/", "https://\u246069\uff0e254\uff61169.254/", "https://[::\uff11]/",
]  # fmt: skip


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_are_refused_when_they_are_saved_and_when_they_are_used(db: None, url: str) -> None:
    past = Past()
    with pytest.raises(egress.Undeliverable):
        telling.add_webhook(user=past.user, url=url)
    with pytest.raises(egress.Undeliverable):
        egress.post(url, b"{}", {})
    assert not Webhook.objects.exists()


def test_a_name_that_has_become_private_is_refused_when_it_is_used(db: None) -> None:
    past = Past()
    NoticeSettings.objects.create(user=past.user, by_email=False)
    uid = uuid.uuid4()
    Webhook.objects.create(
        user=past.user, uid=uid, url="https://localhost:9/x", secret=vault.encrypt("whsec_x", row=uid)
    )
    notice_for(past)
    assert delivery.deliver_due() == 0
    assert Delivery.objects.get().answer == "the address is private"


# ---- the page -------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(db: None) -> Client:
    return browser(Past().user)


def user() -> User:
    return User.objects.get(email="alice@example.com")


def test_the_page_says_which_notices_where_and_from_when_on(page: Client) -> None:
    assert "Low balance below" in page.get("/notices/").content.decode()
    form: dict[str, Any] = {"kinds": ["quota", "low_balance"], "threshold": "12.5", "language": "zh-hans"}
    assert page.post("/notices/", form).status_code == 302
    chosen = NoticeSettings.objects.get(user=user())
    assert (chosen.threshold, chosen.by_email, chosen.language) == (12_500_000_000, False, "zh-hans")
    assert chosen.muted == ["invoice_overdue", "key_expiry", "plan_expiry"]
    for wrong in ({"threshold": "-1"}, {"threshold": "x"}, {"kinds": ["drift"]}, {"language": "xx"}):
        assert page.post("/notices/", {**form, **wrong}).status_code == 422
    assert telling.tell(Due(NoticeKind.INVOICE, "i", "1", {"number": "n", "amount": 1, "invoice": 1}, user=user().pk))
    assert not Delivery.objects.exists()  # muted: told on the page only


def test_a_webhooks_secret_is_shown_once(page: Client, hook: Receiver) -> None:
    answer = page.post("/notices/webhooks/add/", {"url": hook.url})
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    row = Webhook.objects.get()
    secret = vault.decrypt(bytes(row.secret), row=row.uid)
    assert secret in answer.content.decode()
    assert secret not in page.get("/notices/").content.decode()
    refused = page.post("/notices/webhooks/add/", {"url": "https://127.0.0.1/x"})
    assert refused.status_code == 422
    assert "the address is private" in refused.content.decode()


def test_the_test_button_says_whether_it_arrived(page: Client, hook: Receiver, post: Sink) -> None:
    webhook, _ = telling.add_webhook(user=user(), url=hook.url)
    answer = page.post(f"/notices/webhooks/{webhook.pk}/test/", follow=True)
    assert "The test arrived" in answer.content.decode()
    hook.status = 500
    answer = page.post(f"/notices/webhooks/{webhook.pk}/test/", follow=True)
    assert "The test did not arrive: 500" in answer.content.decode()
    assert "The test arrived" in page.post("/notices/test/", follow=True).content.decode()
    assert [to for to, _ in post.letters] == ["alice@example.com"]
    failed = Delivery.objects.get(state="failed")
    hook.status = 200
    page.post(f"/notices/deliveries/{failed.pk}/again/")
    assert delivery.deliver_due() == 1
    assert page.post(f"/notices/webhooks/{webhook.pk}/remove/").status_code == 302
    assert not Webhook.objects.exists()


def test_letters_that_somebody_asks_for_are_few_in_an_hour(page: Client, post: Sink) -> None:
    for _ in range(telling.MOST_LETTERS + 2):
        answer = page.post("/notices/test/", follow=True).content.decode()
    assert "as many letters as you may ask for in an hour" in answer
    assert len(post.letters) == telling.MOST_LETTERS
    sent = Delivery.objects.order_by("pk")
    Delivery.objects.filter(pk__in=[row.pk for row in sent[1:]]).delete()
    row = sent.get()
    for _ in range(2):
        page.post(f"/notices/deliveries/{row.pk}/again/")
    assert delivery.deliver_due() == 0
    Delivery.objects.update(began_at=row.began_at - telling.HOUR)
    page.post(f"/notices/deliveries/{row.pk}/again/")
    assert delivery.deliver_due() == 1
    assert "The test arrived" in page.post("/notices/test/", follow=True).content.decode()


def test_nobody_touches_what_is_another_users(page: Client, hook: Receiver) -> None:
    webhook, _ = telling.add_webhook(user=user(), url=hook.url)
    row = telling.test(user(), webhook)
    stranger = browser(Past("charlie@example.com").user)
    for address in (
        f"webhooks/{webhook.pk}/test/",
        f"webhooks/{webhook.pk}/remove/",
        f"webhooks/{webhook.pk}/enable/",
        f"deliveries/{row.pk}/again/",
    ):
        assert stranger.post(f"/notices/{address}").status_code == 404
    assert hook.url not in stranger.get("/notices/").content.decode()
    assert hook.got == []


def test_there_are_no_more_webhooks_than_there_may_be(page: Client, hook: Receiver) -> None:
    for _ in range(telling.MOST_WEBHOOKS):
        telling.add_webhook(user=user(), url=hook.url)
    with pytest.raises(telling.TooManyWebhooks):
        telling.add_webhook(user=user(), url=hook.url)
    assert page.post("/notices/webhooks/add/", {"url": hook.url}).status_code == 422
