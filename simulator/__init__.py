"""Simulated transmission X-ray microscopy with known truth, and recordings replayed as if live."""
