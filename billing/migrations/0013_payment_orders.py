from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("billing", "0012_invoices")]

    operations = [
        migrations.AddField("payment", "order", models.UUIDField(editable=False, null=True)),
        migrations.AddConstraint(
            "payment",
            models.UniqueConstraint(
                condition=Q(order__isnull=False), fields=("wallet", "order"), name="payment_one_per_order"
            ),
        ),
    ]
