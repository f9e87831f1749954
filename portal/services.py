"""Users and teams: what is done to them."""

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest

from billing import budgets, ledger, revisions
from billing.models import BillingDetails
from keys import rates
from keys import selectors as key_selectors
from keys import services as keys
from portal.models import Membership, Role, Team, User


@transaction.atomic
def personal_team(user: User) -> Team:
    """The user's own team with its wallet, made where there is none."""
    team, made = Team.objects.get_or_create(personal_of=user, defaults={"name": user.email.split("@")[0][:100]})
    if made:
        Membership.objects.create(team=team, user=user, role=Role.OWNER)
    ledger.wallet_of(team.pk)
    return team


@transaction.atomic
def user_with_team(email: str) -> tuple[User, Team]:
    """The user with this address, made without a password where unknown (a reset sets one), and the personal team."""
    email = email.strip().lower()
    user = User.objects.filter(email=email).first() or User.objects.create_user(email)
    return user, personal_team(user)


@transaction.atomic
def replace_addresses(user: User) -> None:
    """The user's address is the only one that signs in and resets the password; others that there were are forgotten.

    It is confirmed as after a sign-up, unless it has been before. Links that reset the password or confirm another
    address are void: allauth's name all of the user's addresses, or the row of one.
    """
    EmailAddress.objects.filter(user=user).exclude(email=user.email).delete()
    EmailAddress.objects.update_or_create(user=user, email=user.email, defaults={"primary": True})


def owner_of(team: Team) -> User | None:
    """The person who answers for the team: of a personal one that person, else its first owner."""
    if team.personal_of is not None:
        return team.personal_of
    owners = Membership.objects.filter(team=team, role=Role.OWNER).select_related("user").order_by("pk")
    return next((membership.user for membership in owners[:1]), None)


@transaction.atomic
def set_time_zone(team: Team, zone: str, *, actor: str) -> None:
    """The zone that the team's budgets, and those of its keys, count their days, weeks and months in.

    Raises ValueError for a zone that nobody knows. `billing.budgets.set_zone` says what becomes of running windows.
    """
    Team.objects.filter(pk=team.pk).update(time_zone=zone)
    owned = list(key_selectors.of_team(team.pk).values_list("pk", flat=True))
    budgets.set_zone(team=team.pk, keys=owned, zone=zone, actor=actor)
    team.time_zone = zone


def set_billing_details(team: Team, **given: str) -> BillingDetails:
    """Who the team's next invoices are written to. What is not given stays; a name that never was is the team's.

    Of two first ones at once the second finds what the first has written.
    """
    first = {"name": team.name, **given}
    return BillingDetails.objects.update_or_create(team=team, defaults=given, create_defaults=first)[0]


@transaction.atomic
def set_rates(team: Team) -> None:
    """Stores the team's rate limits, as they stand in the row; 0 for none. In force within a second.

    Raises ValidationError for a limit that cannot be.
    """
    if problems := keys.rate_problems(team):
        raise ValidationError(problems)
    for name in rates.FIELDS:
        setattr(team, name, getattr(team, name) or None)
    team.save(update_fields=rates.FIELDS)
    revisions.bump(revisions.TEAM_RATES)


def current_team(request: HttpRequest) -> Team:
    """The team whose keys and wallet the signed-in user looks at. Read once a request: the user remembers it."""
    user = request.user
    assert isinstance(user, User)
    try:
        return user.personal_team
    except Team.DoesNotExist:
        return personal_team(user)
