"""Signing up, in and out, and what keeps an account safe: allauth's pages in the portal's look."""

import re
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core import mail
from django.test import Client
from django.urls import reverse

from billing.models import Account
from portal.models import Team, User
from tests.portal.conftest import PASSWORD


def test_signing_up_makes_a_user_a_team_and_a_wallet(db: None, client: Client) -> None:
    answer = client.post(reverse("account_signup"), {"email": "New@Example.com", "password1": PASSWORD})
    assert answer.headers["Location"] == "/"
    user = User.objects.get(email="new@example.com")
    team = Team.objects.get(personal_of=user)
    assert Account.objects.get(team=team, kind="wallet").balance == 0
    assert "Welcome to Pisces" in client.get("/").content.decode()


def test_a_closed_installation_lets_nobody_sign_up(db: None, client: Client, settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    page = client.post(reverse("account_signup"), {"email": "a@example.com", "password1": PASSWORD})
    assert "Sign-up is closed" in page.content.decode()
    assert not User.objects.exists()
    assert "No account?" not in client.get(reverse("account_login")).content.decode()


def test_signing_in_leads_to_where_one_wanted_to_go(alice: User, client: Client) -> None:
    alice.set_password(PASSWORD)
    alice.save()
    asked = client.get(reverse("usage"))
    page = client.get(asked.headers["Location"])
    assert 'name="next" value="/usage/"' in page.content.decode()
    sent = {"login": alice.email, "password": PASSWORD, "next": "/usage/"}
    assert client.post(reverse("account_login"), sent).headers["Location"] == "/usage/"


def test_a_wrong_password_is_refused_in_words(alice: User, client: Client) -> None:
    page = client.post(reverse("account_login"), {"login": alice.email, "password": "wrong"}).content.decode()
    assert 'role="alert"' in page
    assert "E-mail and password do not match." in page


def _link_to_reset() -> str:
    found = re.search(r"http://\S+", str(mail.outbox[0].body))
    assert found is not None
    return found[0]


def test_a_forgotten_password_is_reset_by_mail(alice: User, client: Client) -> None:
    answer = client.post(reverse("account_reset_password"), {"email": alice.email}, follow=True)
    assert "Look into your mailbox" in answer.content.decode()
    link = _link_to_reset()
    page = client.get(link, follow=True)
    assert "Choose a new password" in page.content.decode()
    sent = {"password1": PASSWORD, "password2": PASSWORD}
    done = client.post(page.request["PATH_INFO"], sent, follow=True)
    assert done.status_code == 200
    assert User.objects.get(pk=alice.pk).check_password(PASSWORD)
    assert "does not work any more" in client.get(link, follow=True).content.decode()


OLD, NEW = "alice@example.com", "alice@elsewhere.example"


@pytest.fixture
def moved(alice: User, admin_client: Client) -> User:
    """Alice, whose confirmed address an administrator has replaced. She had another one, too."""
    alice.set_password(PASSWORD)
    alice.save()
    EmailAddress.objects.create(user=alice, email=OLD, primary=True, verified=True)
    EmailAddress.objects.create(user=alice, email="second@example.com", verified=True)
    Client().post(reverse("account_reset_password"), {"email": OLD})
    form = {"email": NEW.upper(), "is_active": "on"}
    assert admin_client.post(reverse("admin:portal_user_change", args=[alice.pk]), form).status_code == 302
    return User.objects.get(pk=alice.pk)


@pytest.mark.parametrize("address", [OLD, "second@example.com"])
def test_an_address_that_an_administrator_replaced_opens_nothing(moved: User, client: Client, address: str) -> None:
    page = client.post(reverse("account_login"), {"login": address, "password": PASSWORD}).content.decode()
    assert "E-mail and password do not match." in page
    link = _link_to_reset()
    assert "does not work any more" in client.get(link, follow=True).content.decode()
    client.post(reverse("account_reset_password"), {"email": address})
    assert len(mail.outbox) == 2
    assert "/password/reset/key/" not in str(mail.outbox[1].body)


def test_the_address_that_an_administrator_has_written_is_the_users_only_one(moved: User, client: Client) -> None:
    (address,) = EmailAddress.objects.filter(user=moved)
    assert (moved.email, address.email, address.primary, address.verified) == (NEW, NEW, True, False)
    client.post(reverse("account_reset_password"), {"email": NEW})
    assert (mail.outbox[-1].to, "/password/reset/key/" in str(mail.outbox[-1].body)) == ([NEW], True)
    signed_in = client.post(reverse("account_login"), {"login": NEW, "password": PASSWORD})
    assert signed_in.headers["Location"] == "/"


def test_what_else_an_administrator_changes_leaves_the_addresses_alone(alice: User, admin_client: Client) -> None:
    EmailAddress.objects.create(user=alice, email=alice.email, primary=True, verified=True)
    EmailAddress.objects.create(user=alice, email="second@example.com", verified=True)
    admin_client.post(reverse("admin:portal_user_change", args=[alice.pk]), {"email": alice.email})
    assert not User.objects.get(pk=alice.pk).is_active
    assert EmailAddress.objects.filter(user=alice, verified=True).count() == 2


def test_signing_out_asks_first(as_alice: Client) -> None:
    assert "Sign out?" in as_alice.get(reverse("account_logout")).content.decode()
    as_alice.post(reverse("account_logout"))
    assert as_alice.get(reverse("keys")).status_code == 302


@pytest.mark.parametrize("name", ["account_email", "account_change_password", "mfa_index", "account"])
def test_the_pages_of_an_account_wear_the_look(as_alice: Client, name: str) -> None:
    page = as_alice.get(reverse(name)).content.decode()
    assert 'class="sidebar"' in page
    assert page.count("<h1>") == 1


def test_two_factor_authentication_from_the_first_code_to_recovery(alice: User, client: Client) -> None:
    alice.set_password(PASSWORD)
    alice.save()
    client.post(reverse("account_login"), {"login": alice.email, "password": PASSWORD})
    EmailAddress.objects.create(user=alice, email=alice.email, primary=True, verified=False)
    refused = client.get(reverse("mfa_activate_totp"), follow=True).content.decode()
    assert "until you have verified your email address" in refused
    EmailAddress.objects.update(verified=True)
    asked_again = client.get(reverse("mfa_activate_totp"), follow=True)
    assert "Confirm it is you" in asked_again.content.decode()
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    page = client.get(reverse("mfa_activate_totp")).content.decode()
    assert 'src="data:image/svg+xml' in page
    found = re.search(r'id="totp-secret"[^>]*>(\w+)<', page)
    assert found is not None
    code = format_hotp_value(hotp_value(found[1], next(iter(yield_hotp_counters_from_time()))))
    client.post(reverse("mfa_activate_totp"), {"code": code})
    assert "recovery-codes" in client.get(reverse("mfa_view_recovery_codes")).content.decode()
    assert "codes are left" in client.get(reverse("mfa_index")).content.decode()
    for name in ("mfa_generate_recovery_codes", "mfa_deactivate_totp"):
        assert client.get(reverse(name)).status_code == 200
    client.post(reverse("account_logout"))
    asked = client.post(reverse("account_login"), {"login": alice.email, "password": PASSWORD}, follow=True)
    assert "Enter the code" in asked.content.decode()


# ---- guessing -------------------------------------------------------------------------------------------------------

MANY = "Too many failed login attempts."


def guess(address: str, number: int) -> str:
    """What a wrong password is answered, from an address of the internet of its own."""
    guesser = Client(REMOTE_ADDR=f"10.{number // 65536}.{number // 256 % 256}.{number % 256}")
    return guesser.post(reverse("account_login"), {"login": address, "password": "wrong"}).content.decode()


def test_what_others_try_makes_nobodys_failed_sign_ins_forgotten(alice: User) -> None:
    assert [MANY in guess(alice.email, number) for number in range(6)] == [False] * 5 + [True]
    for number in range(6, 350):
        guess(f"somebody-{number}@example.com", number)
    assert MANY in guess(alice.email, 350)


# ---- addresses ------------------------------------------------------------------------------------------------------


def test_whoever_has_confirmed_no_address_adds_none(client: Client, db: None) -> None:
    client.post(reverse("account_signup"), {"email": OLD, "password1": PASSWORD})
    adding = {"email": "other@example.net", "action_add": ""}
    page = client.post(reverse("account_email"), adding, follow=True).content.decode()
    assert "Confirm the address that you have before you add another one." in page
    assert list(EmailAddress.objects.values_list("email", "verified")) == [(OLD, False)]
    EmailAddress.objects.update(verified=True)
    client.post(reverse("account_email"), adding)
    assert EmailAddress.objects.filter(email="other@example.net").exists()
    assert mail.outbox[-1].to == ["other@example.net"]
