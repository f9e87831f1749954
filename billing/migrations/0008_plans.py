"""Accounts of plans, and what holds reserve of them.

SQLite writes a table anew to change its constraints, and the trigger that keeps accounts would be gone: it is taken
away before and put back after.
"""

from importlib import import_module
from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

triggers = import_module("billing.migrations.0002_append_only")
REFUSED = (("billing_account", "DELETE"),)
NAMES = ("account_totals_on_wallets_only", "account_wallet_has_team", "account_one_per_team")


def install(apps: Any, schema_editor: Any) -> None:
    triggers.install_for(schema_editor, REFUSED)


def remove(apps: Any, schema_editor: Any) -> None:
    triggers.remove_for(schema_editor, REFUSED)


def add(constraint: Any) -> migrations.AddConstraint:
    return migrations.AddConstraint(model_name="account", constraint=constraint)


class Migration(migrations.Migration):
    dependencies = [("billing", "0007_selling_kinds"), ("portal", "0002_rates")]

    operations = [
        migrations.RunPython(remove, install),
        *(migrations.RemoveConstraint(model_name="account", name=name) for name in NAMES),
        migrations.AddField(
            model_name="account",
            name="ends_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="ends"),
        ),
        add(
            models.CheckConstraint(
                name="account_totals_on_wallets_only",
                condition=Q(kind="wallet") | Q(kind="plan", credit_limit=0) | Q(balance=0, held=0, credit_limit=0),
            )
        ),
        add(
            models.CheckConstraint(
                name="account_wallet_has_team",
                condition=~Q(kind__in=["wallet", "plan"]) | Q(team__isnull=False),
            )
        ),
        add(
            models.CheckConstraint(name="account_plan_ends", condition=Q(kind="plan") ^ Q(ends_at__isnull=True)),
        ),
        add(
            models.UniqueConstraint(
                name="account_one_per_team", fields=["team", "kind", "currency"], condition=~Q(kind="plan")
            )
        ),
        migrations.RunPython(install, remove),
        migrations.AddField(model_name="hold", name="parts", field=models.JSONField(db_default=[], default=list)),
        migrations.CreateModel(
            name="PlanOffer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100, unique=True, verbose_name="name")),
                ("description", models.CharField(blank=True, max_length=500, verbose_name="description")),
                (
                    "kind",
                    models.CharField(
                        choices=[("credit", "credit"), ("calls", "calls")], max_length=8, verbose_name="kind"
                    ),
                ),
                ("price", models.BigIntegerField(verbose_name="price")),
                ("value", models.BigIntegerField(verbose_name="worth")),
                ("calls", models.PositiveIntegerField(blank=True, null=True, verbose_name="calls")),
                ("days", models.PositiveIntegerField(verbose_name="days")),
                (
                    "refill",
                    models.CharField(
                        choices=[("total", "in total"), ("day", "a day"), ("week", "a week"), ("month", "a month")],
                        default="total",
                        max_length=8,
                        verbose_name="refilled",
                    ),
                ),
                ("at_once", models.PositiveIntegerField(blank=True, null=True, verbose_name="at once")),
                ("active", models.BooleanField(default=True, verbose_name="for sale")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("models", models.JSONField(blank=True, default=list, verbose_name="models")),
            ],
            options={
                "verbose_name": "plan for sale",
                "verbose_name_plural": "plans for sale",
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("price__gte", 0)), name="offer_price_not_negative"),
                    models.CheckConstraint(condition=models.Q(("value__gt", 0)), name="offer_worth_something"),
                    models.CheckConstraint(condition=models.Q(("days__gt", 0)), name="offer_lasts"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("calls__isnull", True), ("kind", "credit")),
                            models.Q(("calls__gt", 0), ("kind", "calls")),
                            _connector="OR",
                        ),
                        name="offer_calls_of_calls",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Plan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("order", models.UUIDField(editable=False, unique=True)),
                ("name", models.CharField(max_length=100, verbose_name="name")),
                (
                    "kind",
                    models.CharField(
                        choices=[("credit", "credit"), ("calls", "calls")], max_length=8, verbose_name="kind"
                    ),
                ),
                ("price", models.BigIntegerField(verbose_name="price")),
                ("value", models.BigIntegerField(verbose_name="worth")),
                ("rate", models.BigIntegerField(blank=True, null=True, verbose_name="a call")),
                (
                    "refill",
                    models.CharField(
                        choices=[("total", "in total"), ("day", "a day"), ("week", "a week"), ("month", "a month")],
                        max_length=8,
                        verbose_name="refilled",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("running", "running"), ("ended", "ended"), ("cancelled", "cancelled")],
                        default="running",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("steps", models.PositiveIntegerField(default=1)),
                ("fill_at", models.DateTimeField(blank=True, null=True, verbose_name="next filling")),
                ("starts_at", models.DateTimeField(verbose_name="bought")),
                ("ends_at", models.DateTimeField(verbose_name="ends")),
                ("actor", models.CharField(blank=True, max_length=200, verbose_name="by")),
                ("models", models.JSONField(blank=True, default=list, verbose_name="models")),
                (
                    "account",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="plan", to="billing.account"
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="plans",
                        to="portal.team",
                        verbose_name="team",
                    ),
                ),
                (
                    "offer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="sold",
                        to="billing.planoffer",
                        verbose_name="plan for sale",
                    ),
                ),
            ],
            options={
                "verbose_name": "plan",
                "verbose_name_plural": "plans",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "running")), fields=["team", "ends_at"], name="plan_running"
                    ),
                    models.Index(condition=models.Q(("fill_at__isnull", False)), fields=["fill_at"], name="plan_fill"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("kind", "credit"), ("rate__isnull", True)),
                            models.Q(("kind", "calls"), ("rate__gt", 0)),
                            _connector="OR",
                        ),
                        name="plan_rate_of_calls",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("state", "running"), ("fill_at__isnull", True), _connector="OR"),
                        name="plan_filled_while_it_runs",
                    ),
                ],
            },
        ),
    ]
