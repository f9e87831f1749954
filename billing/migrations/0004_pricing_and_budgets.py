"""Tiers, price groups, raises of budgets and who changed them.

Columns are added to tables with triggers (price versions, accounts) without a default: SQLite would else write the
table anew, and its triggers would be gone.
"""

from importlib import import_module
from typing import Any

import django.db.models.deletion
from django.db import migrations, models

triggers = import_module("billing.migrations.0002_append_only")
REFUSED = (("billing_budgetchange", "UPDATE"), ("billing_budgetchange", "DELETE"))


def install(apps: Any, schema_editor: Any) -> None:
    triggers.install_for(schema_editor, REFUSED)


def remove(apps: Any, schema_editor: Any) -> None:
    triggers.remove_for(schema_editor, REFUSED)


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0003_idempotency_and_review"),
    ]

    operations = [
        migrations.CreateModel(
            name="BudgetChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("owner_kind", models.CharField(choices=[("key", "key"), ("team", "team")], max_length=8)),
                ("owner_id", models.BigIntegerField()),
                (
                    "window",
                    models.CharField(
                        choices=[("total", "in total"), ("day", "a day"), ("week", "a week"), ("month", "a month")],
                        max_length=8,
                        verbose_name="window",
                    ),
                ),
                (
                    "action",
                    models.CharField(
                        choices=[
                            ("cap", "cap set"),
                            ("uncap", "cap removed"),
                            ("raise", "raised"),
                            ("lower", "raise ended"),
                            ("zone", "time zone"),
                        ],
                        max_length=8,
                        verbose_name="change",
                    ),
                ),
                ("cap", models.BigIntegerField(null=True, verbose_name="cap")),
                ("extra", models.BigIntegerField(default=0, verbose_name="raised by")),
                ("until", models.DateTimeField(null=True, verbose_name="raised until")),
                ("zone", models.CharField(max_length=64, verbose_name="time zone")),
                ("actor", models.CharField(blank=True, max_length=200, verbose_name="by")),
                ("reason", models.CharField(blank=True, max_length=500, verbose_name="reason")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="time")),
            ],
            options={
                "verbose_name": "change of a budget",
                "verbose_name_plural": "changes of budgets",
            },
        ),
        migrations.CreateModel(
            name="PriceGroup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100, unique=True, verbose_name="name")),
                ("multiplier", models.BigIntegerField(verbose_name="multiplier")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
            ],
            options={
                "verbose_name": "price group",
                "verbose_name_plural": "price groups",
            },
        ),
        migrations.AddField(
            model_name="budget",
            name="extra",
            field=models.BigIntegerField(default=0, verbose_name="raised by"),
        ),
        migrations.AddField(
            model_name="budget",
            name="extra_until",
            field=models.DateTimeField(blank=True, null=True, verbose_name="raised until"),
        ),
        migrations.AddField(
            model_name="budget",
            name="kept_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="priceversion",
            name="tiers",
            field=models.JSONField(blank=True, null=True, verbose_name="tiers"),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("extra", 0), ("extra_until__isnull", True)),
                    models.Q(("extra__gt", 0), ("extra_until__isnull", False)),
                    _connector="OR",
                ),
                name="budget_raise_has_an_end",
            ),
        ),
        migrations.AddIndex(
            model_name="budgetchange",
            index=models.Index(fields=["owner_kind", "owner_id", "-id"], name="budget_change_owner"),
        ),
        migrations.AddConstraint(
            model_name="pricegroup",
            constraint=models.CheckConstraint(
                condition=models.Q(("multiplier__gte", 0)), name="group_multiplier_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="pricegroup",
            constraint=models.CheckConstraint(
                condition=models.Q(("multiplier__lte", 100000000)), name="group_multiplier_at_most_100"
            ),
        ),
        migrations.AddConstraint(
            model_name="pricegroup",
            constraint=models.CheckConstraint(condition=models.Q(("name", ""), _negated=True), name="group_has_a_name"),
        ),
        migrations.AddField(
            model_name="account",
            name="group",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="wallets",
                to="billing.pricegroup",
                verbose_name="price group",
            ),
        ),
        migrations.RunPython(install, remove),
    ]
