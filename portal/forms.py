"""How forms are drawn: every field by the portal's own template."""

from django.forms.renderers import TemplatesSetting


class FieldRenderer(TemplatesSetting):
    field_template_name = "parts/field.html"
