"""A wallet's past, as the ledger would have written it: calls that were charged and money that moved."""

import datetime as dt
import uuid

from django.db.models import F

from billing import catalog, ids, ledger, prices
from billing.models import Account, AccountKind, Hold, PriceVersion, Transfer, TransferKind
from keys import services as keys
from keys.models import ApiKey
from portal import services
from portal.models import Team
from relay.models import CallLog


class Past:
    """A team's wallet with a key and two models, and what happened to it."""

    def __init__(self, email: str = "alice@example.com", *, zone: str = "UTC", limit: int = 10**15) -> None:
        self.user, self.team = services.user_with_team(email)
        Team.objects.filter(pk=self.team.pk).update(time_zone=zone)
        self.team.refresh_from_db()
        self.number = ledger.wallet_of(self.team.pk).pk
        Account.objects.filter(pk=self.number).update(credit_limit=limit)
        self.keys = [self._key("agent"), self._key("batch")]
        self.prices = [_price("gpt-4o-mini", "0.15"), _price("claude", "3")]

    @property
    def wallet(self) -> Account:
        return Account.objects.select_related("team").get(pk=self.number)

    def _key(self, name: str) -> ApiKey:
        return keys.issue(team_id=self.team.pk, spec=keys.Spec(name=name))[0]

    def call(self, amount: int, at: dt.datetime, *, model: int = 0, key: int = 0, tokens: int = 100) -> uuid.UUID:
        """A call that was charged at that time; it had begun an hour before."""
        number, price = ids.uuid7(), self.prices[model]
        facts = {"team": self.team.pk, "key": self.keys[key].pk, "model": price.model.name}
        Hold.objects.create(
            id=number,
            account=self.wallet,
            amount=amount,
            charged=amount,
            state="settled",
            price=price,
            facts=facts,
            lease_owner="tests",
            lease_until=at,
            created_at=at - dt.timedelta(hours=1),
            resolved_at=at,
        )
        CallLog.objects.create(
            id=number,
            team_id=self.team.pk,
            key=self.keys[key],
            request_id=str(number),
            endpoint="chat.completions",
            protocol="openai",
            model=price.model.name,
            state="settled",
            status=200,
            usage={"input": tokens},
            usage_source="reported",
            lines=[{"bucket": "input", "quantity": tokens, "rate": 1, "multiplier": 1, "amount": amount}],
            cost=amount,
            held=amount,
            price_id=price.pk,
            created_at=at - dt.timedelta(hours=1),
        )
        self.move("charge", amount, at, other=AccountKind.REVENUE, out=True, reference=str(number))
        return number

    def pay(self, amount: int, at: dt.datetime) -> Transfer:
        return self.move("payment", amount, at)

    def move(
        self,
        kind: str,
        amount: int,
        at: dt.datetime,
        *,
        out: bool = False,
        other: AccountKind = AccountKind.PAYMENTS,
        reference: str = "",
        reverses: Transfer | None = None,
    ) -> Transfer:
        """A transfer between the wallet and an account of the platform, with what it does to the balance."""
        there = ledger.platform_account(other)
        debit, credit = (self.wallet, there) if out else (there, self.wallet)
        Account.objects.filter(pk=self.number).update(balance=F("balance") + (-amount if out else amount))
        return Transfer.objects.create(
            kind=kind,
            debit=debit,
            credit=credit,
            amount=amount,
            reference=reference or str(uuid.uuid4()),
            reason=kind,
            reverses=reverses,
            created_at=at,
        )

    def shortfall(self, amount: int, at: dt.datetime, call: uuid.UUID) -> Transfer:
        """What the wallet could not pay of a call: the team owes it."""
        debts = Account.objects.get(kind=AccountKind.RECEIVABLE, team=self.team)
        return Transfer.objects.create(
            kind=TransferKind.SHORTFALL,
            debit=debts,
            credit=ledger.platform_account(AccountKind.REVENUE),
            amount=amount,
            reference=str(call),
            created_at=at,
        )


def _price(name: str, rate: str) -> PriceVersion:
    version = catalog.set_price(catalog.save_model(name=name), prices.parse_card({"input": rate}), actor="tests")
    return version or PriceVersion.objects.filter(model__name=name).latest("valid_from")


def at(text: str) -> dt.datetime:
    """`2026-03-31 23:59` in UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)
