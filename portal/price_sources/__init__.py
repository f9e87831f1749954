"""Where prices come from: one file a source, each of which reads a `billing.catalog_import.values.Listing`.

`genai` reads the package that is installed, `operator_file` YAML or JSON as `manage.py apply` takes it, `csv_file` a
table. What cannot be read raises `InvalidFile`, with the line and the reason of each problem.
"""
