"""The calls that ran when a plan was last filled."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0016_a_plans_own_time_zone"),
    ]

    operations = [
        migrations.AddField(
            model_name="plan",
            name="carried",
            field=models.JSONField(db_default=[], default=list, editable=False),
        ),
    ]
