"""Groups' own prices, and the catalogue's import: margins, proposals and what was decided.

SQLite writes the table of price versions anew for their constraints, and its triggers go with the old one: they are
taken away before and installed again after.
"""

from importlib import import_module
from typing import Any

import django.db.models.deletion
from django.db import migrations, models

triggers = import_module("billing.migrations.0002_append_only")
REFUSED = (("billing_priceversion", "UPDATE"), ("billing_priceversion", "DELETE"))


def install(apps: Any, schema_editor: Any) -> None:
    triggers.install_for(schema_editor, REFUSED)


def remove(apps: Any, schema_editor: Any) -> None:
    triggers.remove_for(schema_editor, REFUSED)


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0008_plans"),
    ]

    operations = [
        migrations.RunPython(remove, install),
        migrations.CreateModel(
            name="MarginRule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("position", models.PositiveSmallIntegerField(default=10, verbose_name="position")),
                (
                    "provider",
                    models.CharField(
                        help_text="its name in the source, such as openai; * and ? stand for anything",
                        max_length=100,
                        verbose_name="provider",
                    ),
                ),
                (
                    "model",
                    models.CharField(default="*", help_text="such as gpt-4o*", max_length=200, verbose_name="models"),
                ),
                ("multiplier", models.BigIntegerField(default=1000000, verbose_name="multiplier")),
                ("minimum", models.BigIntegerField(default=0, verbose_name="minimum")),
                (
                    "digits",
                    models.PositiveSmallIntegerField(
                        default=0,
                        help_text="prices are rounded up to as many; 0 for exact ones",
                        verbose_name="significant digits",
                    ),
                ),
                ("exchange", models.BigIntegerField(blank=True, null=True, verbose_name="exchange rate")),
                ("adds", models.BooleanField(default=False, verbose_name="proposes new models")),
                ("active", models.BooleanField(default=True, verbose_name="in use")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
            ],
            options={
                "verbose_name": "margin rule",
                "verbose_name_plural": "margin rules",
                "ordering": ("position", "pk"),
            },
        ),
        migrations.CreateModel(
            name="PriceProposal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("source", models.CharField(max_length=40, verbose_name="source")),
                ("edition", models.CharField(max_length=200, verbose_name="edition")),
                ("digest", models.CharField(max_length=64)),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "open"), ("decided", "decided"), ("superseded", "superseded")],
                        default="open",
                        max_length=12,
                        verbose_name="state",
                    ),
                ),
                ("unchanged", models.PositiveIntegerField(default=0, verbose_name="unchanged")),
                ("skipped", models.JSONField(default=list, verbose_name="left out")),
                ("actor", models.CharField(max_length=200, verbose_name="by")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
            ],
            options={
                "verbose_name": "price proposal",
                "verbose_name_plural": "price proposals",
            },
        ),
        migrations.CreateModel(
            name="ProposalItem",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("model", models.CharField(max_length=200, verbose_name="model")),
                ("provider", models.CharField(blank=True, max_length=100, verbose_name="provider")),
                (
                    "change",
                    models.CharField(
                        choices=[("new", "new"), ("changed", "changed"), ("gone", "gone")],
                        max_length=8,
                        verbose_name="change",
                    ),
                ),
                ("facts", models.JSONField(default=dict, verbose_name="facts")),
                ("old_card", models.JSONField(null=True, verbose_name="price now")),
                ("new_card", models.JSONField(null=True, verbose_name="proposed price")),
                ("list_card", models.JSONField(null=True, verbose_name="list price")),
                ("notes", models.JSONField(default=list, verbose_name="notes")),
                ("stopped", models.CharField(blank=True, max_length=200, verbose_name="stopped because")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "open"),
                            ("accepted", "accepted"),
                            ("dismissed", "dismissed"),
                            ("superseded", "superseded"),
                        ],
                        default="open",
                        max_length=12,
                        verbose_name="state",
                    ),
                ),
                ("decided_by", models.CharField(blank=True, max_length=200, verbose_name="decided by")),
                ("decided_at", models.DateTimeField(blank=True, null=True, verbose_name="decided")),
                ("valid_from", models.DateTimeField(blank=True, null=True, verbose_name="in force from")),
            ],
            options={
                "verbose_name": "proposed change",
                "verbose_name_plural": "proposed changes",
            },
        ),
        migrations.RemoveConstraint(
            model_name="priceversion",
            name="price_one_per_moment",
        ),
        migrations.AddField(
            model_name="priceversion",
            name="group",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="prices",
                to="billing.pricegroup",
                verbose_name="price group",
            ),
        ),
        migrations.AlterField(
            model_name="priceversion",
            name="rates",
            field=models.JSONField(blank=True, null=True, verbose_name="rates"),
        ),
        migrations.AddConstraint(
            model_name="priceversion",
            constraint=models.UniqueConstraint(
                condition=models.Q(("group__isnull", True)), fields=("model", "valid_from"), name="price_one_per_moment"
            ),
        ),
        migrations.AddConstraint(
            model_name="priceversion",
            constraint=models.UniqueConstraint(
                condition=models.Q(("group__isnull", False)),
                fields=("group", "model", "valid_from"),
                name="group_price_one_per_moment",
            ),
        ),
        migrations.AddConstraint(
            model_name="priceversion",
            constraint=models.CheckConstraint(
                condition=models.Q(("rates__isnull", False), ("group__isnull", False), _connector="OR"),
                name="price_of_the_list_has_rates",
            ),
        ),
        migrations.AddConstraint(
            model_name="marginrule",
            constraint=models.UniqueConstraint(fields=("provider", "model"), name="margin_rule_once"),
        ),
        migrations.AddConstraint(
            model_name="marginrule",
            constraint=models.CheckConstraint(
                condition=models.Q(("multiplier__gt", 0), ("multiplier__lte", 100000000)),
                name="margin_multiplier_in_range",
            ),
        ),
        migrations.AddConstraint(
            model_name="marginrule",
            constraint=models.CheckConstraint(
                condition=models.Q(("minimum__gte", 0)), name="margin_minimum_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="marginrule",
            constraint=models.CheckConstraint(condition=models.Q(("digits__lte", 9)), name="margin_digits_at_most_9"),
        ),
        migrations.AddConstraint(
            model_name="marginrule",
            constraint=models.CheckConstraint(
                condition=models.Q(("exchange__isnull", True), ("exchange__gt", 0), _connector="OR"),
                name="margin_exchange_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="priceproposal",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "open")), fields=("source", "digest"), name="proposal_open_once"
            ),
        ),
        migrations.AddField(
            model_name="proposalitem",
            name="proposal",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="items", to="billing.priceproposal"
            ),
        ),
        migrations.AddField(
            model_name="proposalitem",
            name="version",
            field=models.OneToOneField(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="proposed_by",
                to="billing.priceversion",
            ),
        ),
        migrations.AddIndex(
            model_name="proposalitem",
            index=models.Index(fields=["model", "-id"], name="proposal_item_model"),
        ),
        migrations.AddConstraint(
            model_name="proposalitem",
            constraint=models.UniqueConstraint(fields=("proposal", "model"), name="proposal_item_once"),
        ),
        migrations.AddConstraint(
            model_name="proposalitem",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("decided_at__isnull", True), ("state__in", ["open", "superseded"])),
                    models.Q(
                        ("decided_at__isnull", False),
                        ("state__in", ["accepted", "dismissed"]),
                        models.Q(("decided_by", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="proposal_item_decided_by_somebody",
            ),
        ),
        migrations.RunPython(install, remove),
    ]
