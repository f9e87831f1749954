"""Invoices and statements as people see them: on pages, on paper, as files."""
