"""Payments, what providers tell of them, and exchange rates; none of them is ever deleted."""

from importlib import import_module
from typing import Any

import django.db.models.deletion
from django.db import migrations, models

import billing.ids

triggers = import_module("billing.migrations.0002_append_only")

REFUSED = (
    ("billing_exchangerate", "UPDATE"),
    ("billing_exchangerate", "DELETE"),
    ("billing_payment", "DELETE"),
    ("billing_paymentevent", "DELETE"),
    ("billing_paymentreversal", "DELETE"),
)


def install(apps: Any, schema_editor: Any) -> None:
    triggers.install_for(schema_editor, REFUSED)


def remove(apps: Any, schema_editor: Any) -> None:
    triggers.remove_for(schema_editor, REFUSED)


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0009_group_prices_and_proposals"),
    ]

    operations = [
        migrations.CreateModel(
            name="ExchangeRate",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("rate", models.BigIntegerField(verbose_name="rate")),
                ("valid_from", models.DateTimeField(verbose_name="valid from")),
                ("actor", models.CharField(blank=True, max_length=200, verbose_name="by")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="written")),
            ],
            options={
                "verbose_name": "exchange rate",
                "verbose_name_plural": "exchange rates",
                "constraints": [
                    models.UniqueConstraint(fields=("currency", "valid_from"), name="exchange_rate_once"),
                    models.CheckConstraint(condition=models.Q(("rate__gt", 0)), name="exchange_rate_positive"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Payment",
            fields=[
                ("id", models.UUIDField(default=billing.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("provider", models.CharField(max_length=16, verbose_name="provider")),
                ("method", models.CharField(blank=True, max_length=16, verbose_name="method")),
                ("amount", models.BigIntegerField(verbose_name="credit")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("due", models.BigIntegerField(verbose_name="price")),
                ("rate", models.BigIntegerField(verbose_name="rate")),
                ("taken", models.BigIntegerField(default=0, verbose_name="taken back")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("created", "waiting for payment"),
                            ("processing", "being confirmed"),
                            ("paid", "paid"),
                            ("failed", "failed"),
                            ("expired", "expired"),
                            ("part_refunded", "refunded in part"),
                            ("refunded", "refunded"),
                            ("disputed", "disputed"),
                        ],
                        default="created",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                ("checkout", models.CharField(blank=True, max_length=255, verbose_name="checkout")),
                ("checkout_url", models.CharField(blank=True, editable=False, max_length=2048)),
                ("receipt", models.CharField(blank=True, max_length=255, verbose_name="provider's payment")),
                ("actor", models.CharField(blank=True, max_length=200, verbose_name="by")),
                ("note", models.CharField(blank=True, max_length=300, verbose_name="note")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("expires_at", models.DateTimeField(verbose_name="expires")),
                ("paid_at", models.DateTimeField(blank=True, null=True, verbose_name="paid")),
                ("ask_at", models.DateTimeField(editable=False)),
                ("asked", models.PositiveSmallIntegerField(default=0, editable=False)),
                (
                    "wallet",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="payments",
                        to="billing.account",
                        verbose_name="wallet",
                    ),
                ),
            ],
            options={
                "verbose_name": "incoming payment",
                "verbose_name_plural": "incoming payments",
            },
        ),
        migrations.CreateModel(
            name="PaymentEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("provider", models.CharField(max_length=16, verbose_name="provider")),
                ("event", models.CharField(max_length=255, verbose_name="event")),
                ("kind", models.CharField(max_length=64, verbose_name="kind")),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("applied", "applied"),
                            ("repeated", "repeated"),
                            ("unmatched", "unmatched"),
                            ("unknown", "unknown"),
                            ("refused", "refused"),
                            ("ignored", "ignored"),
                        ],
                        max_length=12,
                        verbose_name="outcome",
                    ),
                ),
                ("note", models.CharField(blank=True, max_length=300, verbose_name="note")),
                ("subject", models.CharField(blank=True, editable=False, max_length=255)),
                ("facts", models.JSONField(default=list, verbose_name="facts")),
                ("received_at", models.DateTimeField(auto_now_add=True, verbose_name="received")),
                (
                    "payment",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="events",
                        to="billing.payment",
                        verbose_name="incoming payment",
                    ),
                ),
            ],
            options={
                "verbose_name": "event of a payment",
                "verbose_name_plural": "events of payments",
            },
        ),
        migrations.CreateModel(
            name="PaymentReversal",
            fields=[
                ("id", models.UUIDField(default=billing.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "kind",
                    models.CharField(
                        choices=[("refund", "refund"), ("dispute", "dispute")], max_length=8, verbose_name="kind"
                    ),
                ),
                ("reference", models.CharField(max_length=255, verbose_name="provider's id")),
                ("due", models.BigIntegerField(verbose_name="amount")),
                (
                    "stage",
                    models.PositiveSmallIntegerField(
                        choices=[
                            (0, "announced"),
                            (1, "taken"),
                            (2, "returned"),
                        ],
                        verbose_name="stage",
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="changed")),
                (
                    "payment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reversals",
                        to="billing.payment",
                        verbose_name="incoming payment",
                    ),
                ),
            ],
            options={
                "verbose_name": "refund or dispute",
                "verbose_name_plural": "refunds and disputes",
            },
        ),
        migrations.AddIndex(
            model_name="payment",
            index=models.Index(fields=["wallet", "-id"], name="payment_of_wallet"),
        ),
        migrations.AddIndex(
            model_name="payment",
            index=models.Index(
                condition=models.Q(("state__in", ["created", "processing"])), fields=["ask_at"], name="payment_open"
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount__gt", 0), ("due__gt", 0), ("rate__gt", 0)), name="payment_amounts_positive"
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(("taken__gte", 0), ("taken__lte", models.F("amount"))),
                name="payment_taken_of_amount",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("paid_at__isnull", False), ("state__in", ["paid", "part_refunded", "refunded", "disputed"])
                    ),
                    models.Q(
                        models.Q(("state__in", ["paid", "part_refunded", "refunded", "disputed"]), _negated=True),
                        ("paid_at__isnull", True),
                        ("receipt", ""),
                        ("taken", 0),
                    ),
                    _connector="OR",
                ),
                name="payment_paid_when_credited",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.UniqueConstraint(
                condition=models.Q(("checkout", ""), _negated=True),
                fields=("provider", "checkout"),
                name="payment_one_per_checkout",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.UniqueConstraint(
                condition=models.Q(("receipt", ""), _negated=True),
                fields=("provider", "receipt"),
                name="payment_one_per_receipt",
            ),
        ),
        migrations.AddIndex(
            model_name="paymentevent",
            index=models.Index(
                condition=models.Q(("outcome", "unmatched")),
                fields=["provider", "subject"],
                name="payment_event_unmatched",
            ),
        ),
        migrations.AddIndex(
            model_name="paymentevent",
            index=models.Index(
                condition=models.Q(("outcome", "refused")), fields=["received_at"], name="payment_event_refused"
            ),
        ),
        migrations.AddConstraint(
            model_name="paymentevent",
            constraint=models.UniqueConstraint(fields=("provider", "event"), name="payment_event_once"),
        ),
        migrations.AddConstraint(
            model_name="paymentreversal",
            constraint=models.UniqueConstraint(fields=("payment", "reference"), name="reversal_once"),
        ),
        migrations.AddConstraint(
            model_name="paymentreversal",
            constraint=models.CheckConstraint(condition=models.Q(("due__gt", 0)), name="reversal_positive"),
        ),
        migrations.AddIndex(
            model_name="transfer",
            index=models.Index(
                condition=models.Q(("kind", "charge"), _negated=True),
                fields=["debit"],
                name="transfer_debit_not_charge",
            ),
        ),
        migrations.RunPython(install, remove),
    ]
