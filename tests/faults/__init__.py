"""Faults on purpose: cut wires, killed processes, full stops, and a provider that keeps the truth to compare with."""
