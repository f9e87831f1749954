"""Invoices, immutable like the ledger; and the index by which a wallet's charges of a time are found."""

import importlib
from typing import Any

import django.db.models.deletion
import django.db.models.expressions
from django.db import migrations, models

ONCE = (
    ("billing_invoice", "UPDATE"),
    ("billing_invoice", "DELETE"),
    ("billing_invoiceline", "UPDATE"),
    ("billing_invoiceline", "DELETE"),
    ("billing_closedmonth", "UPDATE"),
    ("billing_closedmonth", "DELETE"),
    ("billing_invoiceseries", "DELETE"),
)
triggers = importlib.import_module("billing.migrations.0002_append_only")


def install(apps: Any, schema_editor: Any) -> None:
    triggers.install_for(schema_editor, ONCE)


def remove(apps: Any, schema_editor: Any) -> None:
    triggers.remove_for(schema_editor, ONCE)


def drop_index(apps: Any, schema_editor: Any) -> None:
    """The index of `debit` alone, by name: Django would write SQLite's table anew and lose its triggers."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "billing_transfer")
    for name, facts in found.items():
        if facts["index"] and facts["columns"] == ["debit_id"]:
            schema_editor.execute(f"DROP INDEX {connection.ops.quote_name(name)}")


def restore_index(apps: Any, schema_editor: Any) -> None:
    schema_editor.execute("CREATE INDEX billing_transfer_debit_id ON billing_transfer (debit_id)")


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0011_credits_given"),
        ("portal", "0002_rates"),
    ]

    operations = [
        migrations.CreateModel(
            name="BillingDetails",
            fields=[
                (
                    "team",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="billing_details",
                        serialize=False,
                        to="portal.team",
                    ),
                ),
                ("name", models.CharField(max_length=200, verbose_name="name or company")),
                ("address", models.CharField(blank=True, max_length=1000, verbose_name="address")),
                ("tax_id", models.CharField(blank=True, max_length=64, verbose_name="tax number")),
                ("email", models.EmailField(blank=True, max_length=254, verbose_name="e-mail for invoices")),
                ("changed_at", models.DateTimeField(auto_now=True)),
            ],
        ),
        migrations.CreateModel(
            name="ClosedMonth",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("month", models.DateField(verbose_name="month")),
                ("zone", models.CharField(max_length=64)),
                ("starts_at", models.DateTimeField(null=True)),
                ("ends_at", models.DateTimeField()),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("began", "invoicing begins"),
                            ("invoiced", "invoiced"),
                            ("empty", "nothing was used: no invoice"),
                            ("carried", "less than the smallest amount that can be paid: carried on"),
                        ],
                        max_length=8,
                        verbose_name="outcome",
                    ),
                ),
                ("items", models.BigIntegerField(default=0)),
                ("invoiced", models.BigIntegerField(default=0)),
                ("carried_in", models.BigIntegerField(default=0)),
                ("carried_out", models.BigIntegerField(default=0)),
                ("position", models.BigIntegerField()),
                ("actor", models.CharField(blank=True, max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name": "closed month",
                "verbose_name_plural": "closed months",
            },
        ),
        migrations.CreateModel(
            name="Invoice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("invoice", "invoice"), ("credit_note", "credit note")],
                        default="invoice",
                        max_length=12,
                        verbose_name="kind",
                    ),
                ),
                ("series", models.CharField(max_length=8)),
                ("year", models.PositiveSmallIntegerField()),
                ("serial", models.PositiveIntegerField()),
                ("number", models.CharField(max_length=32, unique=True, verbose_name="number")),
                ("reason", models.CharField(blank=True, max_length=500, verbose_name="reason")),
                ("month", models.DateField(verbose_name="month")),
                ("starts_at", models.DateTimeField(verbose_name="from")),
                ("ends_at", models.DateTimeField(verbose_name="until")),
                ("zone", models.CharField(max_length=64, verbose_name="time zone")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("items", models.BigIntegerField(default=0, verbose_name="used")),
                ("carried_in", models.BigIntegerField(default=0, verbose_name="carried over")),
                ("carried_out", models.BigIntegerField(default=0, verbose_name="carried on")),
                ("amount", models.BigIntegerField(verbose_name="amount")),
                ("tax_name", models.CharField(blank=True, max_length=40, verbose_name="tax")),
                ("tax_rate", models.PositiveIntegerField(default=0, verbose_name="tax rate")),
                ("tax", models.BigIntegerField(default=0, verbose_name="tax included")),
                ("seller", models.JSONField(default=dict, verbose_name="seller")),
                ("buyer", models.JSONField(default=dict, verbose_name="buyer")),
                ("actor", models.CharField(blank=True, max_length=200, verbose_name="by")),
                ("issued_at", models.DateTimeField(verbose_name="issued")),
                ("due_at", models.DateTimeField(null=True, verbose_name="due")),
            ],
            options={
                "verbose_name": "invoice",
                "verbose_name_plural": "invoices",
                "ordering": ("-pk",),
            },
        ),
        migrations.CreateModel(
            name="InvoiceLine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("position", models.PositiveIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("usage", "usage"),
                            ("plan", "plan bought"),
                            ("correction", "correction"),
                            ("carried_in", "carried over from the month before"),
                            ("carried_out", "carried on to the next month"),
                            ("opening", "balance at the beginning"),
                            ("payment", "payment"),
                            ("closing", "balance at the end"),
                        ],
                        max_length=12,
                    ),
                ),
                ("code", models.CharField(blank=True, max_length=16)),
                ("model", models.CharField(blank=True, max_length=200)),
                ("key", models.CharField(blank=True, max_length=120)),
                ("text", models.CharField(blank=True, max_length=600)),
                ("calls", models.PositiveIntegerField(default=0)),
                ("quantities", models.JSONField(default=dict)),
                ("amount", models.BigIntegerField()),
                ("at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="InvoiceSeries",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("series", models.CharField(max_length=8)),
                ("year", models.PositiveSmallIntegerField()),
                ("last", models.PositiveIntegerField(default=0)),
            ],
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name="transfer",
                    name="debit",
                    field=models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="debits",
                        to="billing.account",
                        verbose_name="from",
                    ),
                ),
            ],
            database_operations=[migrations.RunPython(drop_index, restore_index)],
        ),
        migrations.AddIndex(
            model_name="transfer",
            index=models.Index(
                condition=models.Q(("kind", "charge"), _negated=True),
                fields=["debit"],
                name="transfer_debit_not_charge",
            ),
        ),
        migrations.AddIndex(
            model_name="transfer",
            index=models.Index(fields=["debit", "created_at"], name="transfer_debit_time"),
        ),
        migrations.AddField(
            model_name="closedmonth",
            name="account",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="closed_months", to="billing.account"
            ),
        ),
        migrations.CreateModel(
            name="InvoiceState",
            fields=[
                (
                    "invoice",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="standing",
                        serialize=False,
                        to="billing.invoice",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "Open"), ("paid", "Paid"), ("overdue", "Overdue"), ("credited", "Credited")],
                        default="open",
                        max_length=8,
                        verbose_name="state",
                    ),
                ),
                ("credited", models.BigIntegerField(default=0, verbose_name="credited")),
                ("outstanding", models.BigIntegerField(verbose_name="still to pay")),
                ("overdue_since", models.DateTimeField(null=True, verbose_name="overdue since")),
                ("settled_at", models.DateTimeField(null=True, verbose_name="settled")),
            ],
        ),
        migrations.AddField(
            model_name="invoice",
            name="account",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="invoices",
                to="billing.account",
                verbose_name="wallet",
            ),
        ),
        migrations.AddField(
            model_name="invoice",
            name="corrects",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="credit_notes",
                to="billing.invoice",
                verbose_name="of",
            ),
        ),
        migrations.AddField(
            model_name="invoice",
            name="transfer",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.transfer"
            ),
        ),
        migrations.AddField(
            model_name="closedmonth",
            name="invoice",
            field=models.OneToOneField(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="closing", to="billing.invoice"
            ),
        ),
        migrations.AddField(
            model_name="invoiceline",
            name="invoice",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="lines", to="billing.invoice"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoiceseries",
            constraint=models.UniqueConstraint(fields=("series", "year"), name="series_once_a_year"),
        ),
        migrations.AddConstraint(
            model_name="invoicestate",
            constraint=models.CheckConstraint(
                condition=models.Q(("credited__gte", 0)), name="state_credited_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoicestate",
            constraint=models.CheckConstraint(
                condition=models.Q(("outstanding__gte", 0)), name="state_outstanding_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoicestate",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("outstanding__gt", 0), ("state__in", ("open", "overdue"))),
                    models.Q(("outstanding", 0), ("state__in", ("paid", "credited"))),
                    _connector="OR",
                ),
                name="state_says_what_is_outstanding",
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.UniqueConstraint(fields=("series", "year", "serial"), name="invoice_numbered_once"),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.UniqueConstraint(
                condition=models.Q(("kind", "invoice")), fields=("account", "month"), name="invoice_one_a_month"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(condition=models.Q(("amount__gt", 0)), name="invoice_amount_positive"),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(condition=models.Q(("serial__gt", 0)), name="invoice_serial_positive"),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(("starts_at__lt", models.F("ends_at"))), name="invoice_period_in_order"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(("tax__gte", 0), ("tax__lt", models.F("amount"))), name="invoice_tax_within_amount"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("kind", "credit_note"),
                    (
                        "items",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                models.F("amount"), "+", models.F("carried_out")
                            ),
                            "-",
                            models.F("carried_in"),
                        ),
                    ),
                    _connector="OR",
                ),
                name="invoice_adds_up",
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("corrects__isnull", True), ("kind", "invoice"), ("transfer__isnull", True)),
                    models.Q(
                        ("corrects__isnull", False),
                        ("kind", "credit_note"),
                        ("transfer__isnull", False),
                        models.Q(("reason", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="invoice_credit_note_names_its_invoice",
            ),
        ),
        migrations.AddConstraint(
            model_name="closedmonth",
            constraint=models.UniqueConstraint(fields=("account", "month"), name="closing_once_a_month"),
        ),
        migrations.AddConstraint(
            model_name="closedmonth",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "carried_out",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                models.F("carried_in"), "+", models.F("items")
                            ),
                            "-",
                            models.F("invoiced"),
                        ),
                    )
                ),
                name="closing_adds_up",
            ),
        ),
        migrations.AddConstraint(
            model_name="closedmonth",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("invoice__isnull", False), ("invoiced__gt", 0), ("outcome", "invoiced")),
                    models.Q(
                        models.Q(("outcome", "invoiced"), _negated=True), ("invoice__isnull", True), ("invoiced", 0)
                    ),
                    _connector="OR",
                ),
                name="closing_invoiced_with_an_invoice",
            ),
        ),
        migrations.AddConstraint(
            model_name="closedmonth",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("outcome", "began"), ("starts_at__isnull", True)),
                    ("starts_at__lt", models.F("ends_at")),
                    _connector="OR",
                ),
                name="closing_has_a_beginning",
            ),
        ),
        migrations.AddConstraint(
            model_name="invoiceline",
            constraint=models.UniqueConstraint(fields=("invoice", "position"), name="line_one_per_position"),
        ),
        migrations.CreateModel(
            name="InvoicedWallet",
            fields=[],
            options={
                "verbose_name": "month to close",
                "verbose_name_plural": "months to close",
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("billing.account",),
        ),
        migrations.RunPython(install, remove),
    ]
