"""Searches of the web in a column of the roll-ups: 0 for all calls until now, of which nobody has counted them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("relay", "0014_kept_for_an_hour"),
    ]

    operations = [
        migrations.AddField(
            model_name="rollup",
            name="used_searches",
            field=models.BigIntegerField(db_default=0),
        ),
    ]
