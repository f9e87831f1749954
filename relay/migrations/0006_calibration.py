from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("relay", "0005_costs")]

    operations = [
        migrations.CreateModel(
            name="Calibration",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("model", models.CharField(max_length=200)),
                ("side", models.CharField(max_length=8)),
                ("wide", models.BooleanField()),
                ("epoch", models.IntegerField()),
                ("samples", models.BigIntegerField(default=0)),
                ("longest", models.BigIntegerField(default=0)),
                ("heights", models.JSONField(default=list)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        name="calibration_once_an_epoch", fields=["model", "side", "wide", "epoch"]
                    ),
                    models.CheckConstraint(
                        name="calibration_side_known", condition=models.Q(side__in=("input", "output"))
                    ),
                ],
            },
        ),
    ]
