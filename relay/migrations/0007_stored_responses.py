import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0001_initial"),
        ("portal", "0001_initial"),
        ("relay", "0006_calibration"),
    ]

    operations = [
        migrations.CreateModel(
            name="StoredResponse",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("model", models.CharField(max_length=200)),
                ("previous", models.UUIDField(db_index=True, null=True)),
                ("sealed", models.TextField(editable=False)),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField(db_index=True)),
                (
                    "key",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="keys.apikey",
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="portal.team",
                    ),
                ),
            ],
        ),
    ]
