"""The source that is written for one net per topic of operators; `python -m tests.writers.golden_nets` renews it."""
