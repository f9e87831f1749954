"""What was written to a provider's cache for an hour, in a column of the roll-ups: 0 for all calls until now, of which
nobody has told it apart."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("relay", "0013_failing_since"),
    ]

    operations = [
        migrations.AddField(
            model_name="rollup",
            name="used_cache_write_1h",
            field=models.BigIntegerField(db_default=0),
        ),
    ]
