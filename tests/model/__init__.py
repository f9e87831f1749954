"""A reference model of the ledger, and one set of random rules that it and the real ledger are driven by."""
