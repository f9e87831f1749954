"""Redeem codes: each is worth its amount once, to one, and tells those who guess nothing."""

import datetime as dt
import threading
import uuid
from collections import Counter
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from billing import audit, money
from billing.credit_models import CodeState, RedeemAttempt, RedeemBatch, RedeemCode
from billing.models import Transfer
from billing.payments import codes, redeem
from tests.credits.conftest import UNIT, Cast

GUESS = "PX-0000-0000-0000-0000-0000"  # genuine by its checksum


def test_a_code_becomes_one_transfer_and_money_in_the_wallet(cast: Cast) -> None:
    batch, (code,) = cast.batch(amount=5 * UNIT)
    done = cast.redeem(code.lower())
    transfer = Transfer.objects.get(kind="redemption")
    row = RedeemCode.objects.get()
    assert (done.amount, done.transfer, done.code) == (5 * UNIT, transfer.pk, row.pk)
    assert (transfer.amount, transfer.reference, transfer.actor) == (5 * UNIT, f"code:{row.pk}", "alice@example.com")
    assert (transfer.debit.kind, transfer.credit_id) == ("promo", cast.wallet.pk)
    assert (row.state, row.team_id, row.user_id, row.transfer_id) == (
        "redeemed", cast.team.pk, cast.alice.pk, transfer.pk,
    )  # fmt: skip
    assert cast.wallet.balance == 5 * UNIT
    assert (row.last_four, row.batch) == (code[-4:], batch)
    assert audit.run() == []


def test_nothing_of_a_code_but_its_digest_and_its_end_is_stored(cast: Cast) -> None:
    _, fresh = cast.batch(number=20)
    stored = repr(list(RedeemCode.objects.values())) + repr(list(RedeemBatch.objects.values()))
    for code in fresh:
        plain = codes.canonical(code)
        assert plain is not None
        assert plain not in stored
        assert code not in stored
        assert plain[:8] not in stored


def test_the_pepper_belongs_to_the_digest(cast: Cast, settings: Any) -> None:
    _, (code,) = cast.batch()
    settings.KEY_PEPPER = "another pepper"
    with pytest.raises(redeem.Unknown):
        cast.redeem(code)


def test_a_used_code_is_clear_to_its_user_and_unknown_to_everybody_else(cast: Cast) -> None:
    _, (code,) = cast.batch()
    cast.redeem(code)
    with pytest.raises(redeem.Again) as again:
        cast.redeem(code)
    assert again.value.at == RedeemCode.objects.get().redeemed_at
    charlie, his = cast.other("charlie")
    answers = set()
    _, (late,) = cast.batch(expires_at=timezone.now() + dt.timedelta(hours=1))
    RedeemBatch.objects.filter(codes__last_four=late[-4:]).update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    off, (stopped,) = cast.batch()
    redeem.disable(batch=off.pk)
    for text in (code, GUESS, late, stopped):
        with pytest.raises(redeem.NotRedeemed) as refused:
            cast.redeem(text, user=charlie, team=his)
        answers.add((type(refused.value), refused.value.message))
    assert len(answers) == 1
    assert Transfer.objects.filter(kind="redemption").count() == 1


def test_a_mistyped_code_is_refused_without_a_query(cast: Cast, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0), pytest.raises(redeem.Unknown):
        cast.redeem("PX-0000-0000-0000-0000-0001")
    assert not RedeemAttempt.objects.exists()


def test_guesses_of_a_person_are_stopped_even_where_the_next_would_be_right(cast: Cast) -> None:
    _, (code,) = cast.batch()
    for _ in range(redeem.TRIES_OF_A_PERSON):
        with pytest.raises(redeem.Unknown):
            cast.redeem(GUESS)
    with pytest.raises(redeem.TooMany) as stopped:
        cast.redeem(code)
    assert 3500 < stopped.value.seconds <= 3600
    charlie, his = cast.other("charlie")
    cast.redeem(code, user=charlie, team=his)  # another person, who does not guess
    RedeemAttempt.objects.update(at=timezone.now() - redeem.WINDOW)
    with pytest.raises(redeem.Unknown):
        cast.redeem(code)
    assert redeem.forget_attempts() == redeem.TRIES_OF_A_PERSON


def test_guesses_from_one_address_are_stopped_whoever_makes_them(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redeem, "TRIES_OF_AN_ADDRESS", 12)
    people = [cast.other(f"p{number}") for number in range(4)]
    for number in range(12):
        user, team = people[number % 4]
        with pytest.raises(redeem.Unknown):
            cast.redeem(GUESS, user=user, team=team, at="192.0.2.7")
    with pytest.raises(redeem.TooMany):
        cast.redeem(GUESS, at="192.0.2.7")
    with pytest.raises(redeem.Unknown):
        cast.redeem(GUESS, at="192.0.2.8")


def test_true_codes_are_no_guesses(cast: Cast) -> None:
    _, fresh = cast.batch(number=redeem.TRIES_OF_A_PERSON + 5)
    for code in fresh:
        cast.redeem(code)
    assert cast.wallet.balance == len(fresh) * 5 * UNIT
    assert not RedeemAttempt.objects.exists()


def test_a_team_and_a_person_redeem_as_many_of_a_batch_as_they_may(cast: Cast) -> None:
    _, fresh = cast.batch(number=4, per_team=2)
    cast.redeem(fresh[0])
    cast.redeem(fresh[1])
    with pytest.raises(redeem.Exhausted):
        cast.redeem(fresh[2])
    _, fresh = cast.batch(number=3, per_user=1)
    _, another = cast.other("bob")
    cast.redeem(fresh[0])
    with pytest.raises(redeem.Exhausted):
        cast.redeem(fresh[1], team=another)
    assert Counter(RedeemCode.objects.values_list("state", flat=True)) == {"redeemed": 3, "unused": 4}


def test_a_batch_expires_at_its_moment(cast: Cast) -> None:
    batch, (first, second) = cast.batch(number=2, expires_at=timezone.now() + dt.timedelta(minutes=1))
    cast.redeem(first)
    RedeemBatch.objects.filter(pk=batch.pk).update(expires_at=timezone.now())
    with pytest.raises(redeem.Unknown):
        cast.redeem(second)


def test_a_batch_worth_much_waits_for_a_second_administrator(cast: Cast, settings: Any) -> None:
    settings.SECOND_ADMIN_ABOVE = 100 * UNIT
    batch, fresh = cast.batch(number=21)
    assert batch.state == "waiting"
    with pytest.raises(redeem.Unknown):
        cast.redeem(fresh[0])
    with pytest.raises(redeem.NotYours):
        redeem.approve(batch=batch.pk, user=cast.root.pk)
    assert redeem.approve(batch=batch.pk, user=cast.boss.pk)
    assert not redeem.approve(batch=batch.pk, user=cast.boss.pk)
    cast.redeem(fresh[0])
    with pytest.raises(IntegrityError), transaction.atomic():
        RedeemBatch.objects.filter(pk=batch.pk).update(approved_by=cast.root)


def test_unused_codes_are_disabled_or_deleted_and_used_ones_stay(cast: Cast) -> None:
    batch, fresh = cast.batch(number=5)
    cast.redeem(fresh[0])
    assert redeem.disable_code(code=RedeemCode.objects.get(last_four=fresh[1][-4:]).pk)
    with pytest.raises(redeem.Unknown):
        cast.redeem(fresh[1])
    assert redeem.disable(batch=batch.pk) == 3
    assert redeem.delete_unused(batch=batch.pk) == 4
    assert redeem.sums(batch.pk) == redeem.Sums(0, 1, 0)
    with pytest.raises(redeem.Unknown):
        cast.redeem(fresh[4])
    assert cast.wallet.balance == 5 * UNIT


IMPOSSIBLE: list[dict[str, Any]] = [
    {"amount": 0}, {"amount": -1}, {"number": 0}, {"number": redeem.MOST_CODES + 1}, {"label": " "},
    {"amount": money.LIMIT // 2, "number": 2}, {"per_team": 0}, {"per_user": -1},
    {"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, {"label": "a\x00b"},
]  # fmt: skip


def test_a_batch_that_cannot_be_is_not_made(cast: Cast) -> None:
    for fields in IMPOSSIBLE:
        wanted = redeem.Wanted(**{"label": "x", "amount": UNIT, "number": 1, **fields})
        with pytest.raises((redeem.Impossible, money.InvalidAmount)):
            redeem.make(wanted=wanted, reference=uuid.uuid4(), user=cast.root.pk)
    assert not RedeemBatch.objects.exists()


def test_a_batch_that_is_sent_twice_is_made_once(cast: Cast) -> None:
    wanted, reference = redeem.Wanted(label="x", amount=UNIT, number=3), uuid.uuid4()
    redeem.make(wanted=wanted, reference=reference, user=cast.root.pk)
    with pytest.raises(redeem.AlreadyMade):
        redeem.make(wanted=wanted, reference=reference, user=cast.root.pk)
    assert RedeemCode.objects.count() == 3


WRONG = (
    "UPDATE billing_redeemcode SET state = 'redeemed'",
    "UPDATE billing_redeemcode SET redeemed_at = CURRENT_TIMESTAMP",
    "UPDATE billing_redeemcode SET state = 'lost'",
    "UPDATE billing_redeembatch SET amount = 0",
    "UPDATE billing_redeembatch SET number = 0",
    "UPDATE billing_redeembatch SET label = ''",
    "UPDATE billing_redeembatch SET per_team = 0",
)


def test_the_database_refuses_what_cannot_be(cast: Cast) -> None:
    cast.batch()
    for statement in WRONG:
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


# ---- at once --------------------------------------------------------------------------------------------------------


def at_once(count: int, work: Any) -> list[Any]:
    """What `work(number)` said in each of so many threads with connections of their own, all let go together."""
    gate, said, guard = threading.Barrier(count), [], threading.Lock()

    def one(number: int) -> None:
        try:
            with guard:  # one after another: two hundred handshakes at once outlast the time that one may take
                connection.ensure_connection()
            gate.wait()
            try:
                found: Any = work(number)
            except Exception as error:
                found = error
            with guard:
                said.append(found)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


def test_of_two_hundred_attempts_at_one_code_one_succeeds(cast: Cast) -> None:
    _, (code,) = cast.batch()
    people = [cast.other(f"p{number}") for number in range(20)]

    def attempt(number: int) -> redeem.Redeemed:
        user, team = people[number % 20]
        return cast.redeem(code, user=user, team=team, at=f"192.0.2.{number % 20}")

    kinds = Counter(type(one).__name__ for one in at_once(200, attempt))
    assert kinds["Redeemed"] == 1
    assert kinds["Unknown"] + kinds["Again"] == 199, kinds
    assert Transfer.objects.filter(kind="redemption").count() == 1
    assert audit.run() == []


def test_of_many_codes_at_once_a_team_redeems_as_many_as_it_may(cast: Cast) -> None:
    _, fresh = cast.batch(number=8, per_team=3)
    said = at_once(8, lambda n: cast.redeem(fresh[n]))
    assert Counter(type(one).__name__ for one in said) == {"Redeemed": 3, "Exhausted": 5}
    assert cast.wallet.balance == 15 * UNIT
    assert RedeemCode.objects.filter(state=CodeState.REDEEMED).count() == 3


def test_guesses_at_once_are_no_more_than_those_one_after_another(cast: Cast) -> None:
    said = at_once(24, lambda n: cast.redeem(GUESS))
    assert Counter(type(one).__name__ for one in said) == {"Unknown": redeem.TRIES_OF_A_PERSON, "TooMany": 14}
