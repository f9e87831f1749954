"""Notices: what people are told without having asked, by e-mail and signed webhooks.

`finding` looks for what is due in the tables, `telling` writes it down once, `words` says it in the reader's language,
`delivery` brings it there.
"""
