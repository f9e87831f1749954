"""`manage.py issue_key`: a key from the command line."""

import datetime as dt
import json
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email
from django.utils.dateparse import parse_date, parse_datetime

from billing import money
from billing.models import Window
from keys import rates
from keys.models import BillingMode, KeyType, PaymentType
from keys.services import Spec
from portal import operator
from portal.management import prepared


class Command(BaseCommand):
    help = "Issues an API key and prints it, once. Makes the user, the team and the wallet where unknown."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True, help="whose key it is")
        parser.add_argument("--name", required=True, help="what the key is called")
        parser.add_argument("--credit", default="0", help="money given to the wallet, as one transfer")
        parser.add_argument("--type", default=KeyType.STANDARD.value, help=", ".join(KeyType.values))
        parser.add_argument("--payment", default=PaymentType.PREPAID.value, help=", ".join(PaymentType.values))
        parser.add_argument("--billing", default=BillingMode.METERED.value, help=", ".join(BillingMode.values))
        parser.add_argument("--quota", help="the most that the key may spend in each window")
        parser.add_argument("--window", default=Window.TOTAL.value, help=", ".join(Window.values))
        parser.add_argument("--expires", help="a date (the end of that day, UTC) or an ISO time")
        parser.add_argument("--models", default="", help="the models that it may use, separated by commas; all")
        parser.add_argument("--endpoints", default="", help="the endpoints that it may use, separated by commas; all")
        parser.add_argument("--ips", default="", help="addresses or ranges that it may be used from; all")
        parser.add_argument("--rpm", type=int, help="the most requests a minute; any number")
        parser.add_argument("--tpm", type=int, help="the most tokens a minute; any number")
        parser.add_argument("--parallel", type=int, help="the most calls at once; any number")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        prepared.check()
        try:
            issued = operator.issue_key(
                email=_email(options["email"]),
                spec=_spec(options),
                credit=_amount("credit", options["credit"]),
                actor="manage.py issue_key",
            )
        except ValidationError as error:
            raise CommandError("\n".join(_messages(error))) from error
        if options["json"]:
            self.stdout.write(json.dumps(_shape(issued, options)))
            return
        self.stdout.write(issued.secret)
        self.stderr.write(f"for {issued.email}; it is shown this once")


def _spec(options: dict[str, Any]) -> Spec:
    return Spec(
        name=options["name"],
        type=options["type"],
        payment=options["payment"],
        billing=options["billing"],
        quota=_amount("quota", options["quota"]) if options["quota"] is not None else None,
        window=options["window"],
        expires_at=_moment(options["expires"]) if options["expires"] else None,
        models=_list(options["models"]),
        endpoints=_list(options["endpoints"]),
        networks=_list(options["ips"]),
        **{name: options[name] for name in rates.FIELDS},
    )


def _email(text: str) -> str:
    try:
        validate_email(text.strip())
    except ValidationError as error:
        raise CommandError(f"email: {text[:100]!r} is not an e-mail address.") from error
    return text.strip()


def _amount(name: str, text: str) -> int:
    try:
        return money.parse(text)
    except money.InvalidAmount as error:
        raise CommandError(f"{name}: {error}") from error


def _moment(text: str) -> dt.datetime:
    try:
        if day := parse_date(text):
            return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), tzinfo=dt.UTC)
        found = parse_datetime(text)
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise CommandError(f"expires: {text[:40]!r} is neither a date such as 2027-01-31 nor an ISO time.")
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _messages(error: ValidationError) -> list[str]:
    if not hasattr(error, "error_dict"):
        return list(error.messages)
    return [f"{field}: {' '.join(messages)}" for field, messages in error.message_dict.items()]


def _shape(issued: operator.Issued, options: dict[str, Any]) -> dict[str, Any]:
    key = issued.key
    return {
        "key": issued.secret,
        "id": key.pk,
        "name": key.name,
        "email": issued.email,
        "team": issued.team.name,
        "type": key.type,
        "payment": key.payment,
        "billing": key.billing,
        "quota": options["quota"],
        "window": options["window"] if options["quota"] is not None else None,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "models": key.models,
        "endpoints": key.endpoints,
        "networks": key.networks,
        **{name: getattr(key, name) for name in rates.FIELDS},
        "balance": money.to_text(issued.wallet.balance),
    }
