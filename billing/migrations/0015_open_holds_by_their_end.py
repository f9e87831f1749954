"""The index of open holds knows them by the end that they have not had, which costs a row that is written nothing."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0014_payment_for_a_plan"),
    ]

    operations = [
        migrations.RemoveIndex(model_name="hold", name="hold_open"),
        migrations.AddIndex(
            model_name="hold",
            index=models.Index(
                condition=models.Q(("resolved_at__isnull", True)), fields=["lease_until"], name="hold_open"
            ),
        ),
    ]
