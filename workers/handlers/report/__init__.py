"""The parts of `generate_report`: what is computed (profiling, gaps, anomalies), said (findings), drawn and written.

Nothing here is imported before the handler runs: most of it imports polars, numpy or matplotlib at its head.
"""
