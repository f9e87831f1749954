"""The whole life of money: everything that can happen to teams' money, in random order, beside a small reference."""
