"""Prices from elsewhere: what a source lists, by which margin we sell it, what that would change, and who accepted it.

`values`, `margins` and `difference` are pure; `proposals` keeps what was found until an administrator decides. Sources
are read above, one file each (`portal.price_sources`).
"""
