from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0005_audit_reports"),
    ]

    operations = [
        migrations.AddField(
            model_name="catalogmodel",
            name="capabilities",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="where the model differs from what is known of its kind",
                verbose_name="capabilities",
            ),
        ),
    ]
