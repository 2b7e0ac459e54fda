"""Parts of `benchmarks/estimators.py`, which says what is measured."""
