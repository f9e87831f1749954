"""Accounts of plans, and what holds reserve of them.

SQLite writes a table anew to change its constraints, and the trigger that keeps accounts would be gone: it is taken
away before and put back after.
"""

from importlib import import_module
from typing import Any

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
    ]
